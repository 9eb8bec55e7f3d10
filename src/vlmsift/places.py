"""Places of data. In: what a user named, a path or a URL. Out: a `Path`, or a `StorePath`, which answers as one does.

A URL (s3://, gs://, abfs://, hf://, or any that fsspec knows) is opened by `vlmsift.folders`; credentials come from
where the store's own tools look. Every process has its own connections: a forked one may not use its parent's.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, total_ordering
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, TypeVar
from urllib.parse import unquote

from vlmsift.errors import UsageError
from vlmsift.files import remove_leftovers, replacing
from vlmsift.folders import StoredFolder, open_folder

_URL = re.compile(r"([a-zA-Z][\w+.-]+):(/+)(.*)", re.DOTALL)
_Answer = TypeVar("_Answer")


@total_ordering
class StorePath:
    """A file or folder in a store, by its URL; what `pathlib.Path` has under the same name means the same.

    Nothing is asked of the store before a question needs it. Raises UsageError for a URL that climbs ("..") or names
    no store; every question raises StoreError where the store cannot be reached or refuses, with the cure.
    """

    def __init__(self, url: str, info: Any = None) -> None:
        match = _URL.fullmatch(url)
        parts = [part for part in match[3].split("/") if part not in ("", ".")] if match else []
        if match is None or not parts or ".." in parts:
            raise UsageError(f"{url!r} names no place in a store. Write it as s3://BUCKET/FOLDER/FILE.")
        self.scheme, self._parts, self._info = match[1].lower(), tuple(parts), info

    def __str__(self) -> str:
        return f"{self.scheme}://{'/'.join(self._parts)}"

    def __repr__(self) -> str:
        return f"StorePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorePath) and str(self) == str(other)

    def __lt__(self, other: StorePath) -> bool:
        return str(self) < str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, name: str) -> StorePath:
        return StorePath(f"{self}/{name}")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_info": None}

    @property
    def name(self) -> str:
        return self._parts[-1]

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def parents(self) -> tuple[StorePath, ...]:
        cuts = range(len(self._parts) - 1, 0, -1)
        return tuple(StorePath(f"{self.scheme}://{'/'.join(self._parts[:cut])}") for cut in cuts)

    @property
    def parent(self) -> StorePath:
        return self.parents[0] if len(self._parts) > 1 else self

    @property
    def bucket(self) -> StorePath:
        """What the URL names first; whether it is there tells a wrong bucket from a wrong name in it."""
        return StorePath(f"{self.scheme}://{self._parts[0]}")

    def with_name(self, name: str) -> StorePath:
        return self.parent / name

    @property
    def arrow(self) -> tuple[Any, str]:
        """The `pyarrow.fs.FileSystem` of this process, and the path in it."""
        folder = _connect(str(self.bucket), os.getpid())
        return folder.filesystem, "/".join(filter(None, (folder.root, *self._parts[1:])))

    def resolve(self) -> StorePath:
        return self

    def exists(self) -> bool:
        return self._kind() != "NotFound"

    def is_file(self) -> bool:
        return self._kind() == "File"

    def is_dir(self) -> bool:
        return self._kind() == "Directory"

    def stat(self) -> SimpleNamespace:
        """`st_size` and, 0 where the store tells no time, `st_mtime_ns`; as listed, of a path that `iterdir` gave."""
        if (info := self._looked_up()).type.name == "NotFound":
            raise FileNotFoundError(f"{self}: no such file")
        return SimpleNamespace(st_size=info.size or 0, st_mtime_ns=info.mtime_ns or 0)

    def version(self) -> str:
        """What changes when the file does: its ETag, or the store's own digest, or its size and time of change."""
        filesystem, path = self.arrow
        own = getattr(getattr(filesystem, "handler", None), "fs", None)  # fsspec's, behind
        if own is not None:
            return f"{self._ask(lambda: own.ukey(path))}"
        with self.open() as file:
            told = {key.lower(): value for key, value in self._ask(file.metadata).items()}
        found = self.stat()
        return f"{told.get('etag', found.st_mtime_ns)}-{found.st_size}"

    def iterdir(self) -> Iterator[StorePath]:
        """What lies directly in this folder, each with what the listing told of it."""
        from pyarrow.fs import FileSelector

        filesystem, path = self.arrow
        for info in self._ask(lambda: filesystem.get_file_info(FileSelector(path))):
            yield StorePath(f"{self}/{info.base_name}", info)

    def open(self, mode: str = "rb") -> Any:
        """A `pyarrow.NativeFile` to read from any place in it; each read is a request. Raises FileNotFoundError."""
        filesystem, path = self.arrow
        return self._ask(lambda: filesystem.open_input_file(path))

    def read_bytes(self) -> bytes:
        """All of it, in one request. Raises FileNotFoundError."""
        filesystem, path = self.arrow

        def whole() -> bytes:
            with filesystem.open_input_file(path) as file:
                return bytes(file.read())

        return self._ask(whole)

    def write_bytes(self, content: bytes | memoryview) -> None:
        """Write it whole, or not at all, in place of what has that name."""
        folder = _connect(str(self.bucket), os.getpid())
        folder.put("/".join(self._parts[1:]), content)

    def unlink(self) -> None:
        """Remove the file, if there is one."""
        folder = _connect(str(self.bucket), os.getpid())
        folder.remove("/".join(self._parts[1:]))

    def _looked_up(self) -> Any:
        if self._info is None:
            filesystem, path = self.arrow
            return self._ask(lambda: filesystem.get_file_info(path))
        return self._info

    def _kind(self) -> str:
        return str(self._looked_up().type.name)

    def _ask(self, question: Callable[[], _Answer]) -> _Answer:
        """The answer, asked for again where the store fails (see `vlmsift.folders`)."""
        folder = _connect(str(self.bucket), os.getpid())
        return folder.insist("/".join(self._parts[1:]), question)


Place = Path | StorePath
"""Where data lies: on a disk, or in a store."""


def as_place(word: str | os.PathLike[str] | StorePath) -> Place:
    """The place that a user named. A `Path` that was made of a URL (s3:/bucket) is taken for the URL."""
    if isinstance(word, StorePath):
        return word
    match = _URL.fullmatch(text := os.fspath(word))
    if match is None or (isinstance(word, str) and not text.startswith(f"{match[1]}://")):
        return Path(word).expanduser()
    if match[1].lower() == "file":
        return Path(unquote(f"/{match[3]}"))
    return StorePath(text)


@contextmanager
def writing(target: Place, ours: Callable[[str], bool] = lambda name: False, last: str = "") -> Iterator[Path]:
    """A temporary name on this machine to write a file or folder to; at the end it becomes `target`, whole.

    Into a store each file goes in one write: what is written in several is published where one of them fails.

    Args:
        ours: as `files.replacing` takes it.
        last: of a folder's files the one without which the others count for nothing: in a store it is the first to go
            and the last to come.
    """
    if isinstance(target, Path):
        with replacing(target, ours) as temporary:
            yield temporary
        remove_leftovers(target.parent, target.name)
        return
    with TemporaryDirectory(prefix="vlmsift-") as folder:
        yield (temporary := Path(folder) / target.name)
        if temporary.is_file():
            _upload(temporary, target)
            return
        (target / last).unlink()
        for file in sorted(temporary.iterdir(), key=lambda file: file.name == last):
            _upload(file, target / file.name)


def _upload(file: Path, target: StorePath) -> None:
    with file.open("rb") as opened:
        target.write_bytes(memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)))


@lru_cache(maxsize=64)
def _connect(bucket: str, process: int) -> StoredFolder:
    """The store's root, with connections of this process."""
    folder = open_folder(bucket)
    assert isinstance(folder, StoredFolder)  # a URL that is no file's
    return folder
