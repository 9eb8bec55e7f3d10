"""Folders by a few verbs: list, has, read, put, put_new, remove. On a disk or in a store, by the same names.

In: a path or a URL. Out: files whole or absent. On a disk a temporary name is renamed (see `vlmsift.files`). A store
gets each file as one write of a finished buffer: it publishes a stream when that is closed, and an error closes it too.
Every verb may be done twice without harm, so a store that fails, or does not answer, is asked again.
"""

from __future__ import annotations

import os
import random
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

from vlmsift.errors import MissingExtra, StoreError, UsageError
from vlmsift.files import add_file, is_temporary, replacing, temporary_name

ATTEMPTS = 5  # at one verb of a store
PAUSE = 0.5  # seconds before the second attempt, give or take half; doubled for each later one
PATIENCE = 300.0  # seconds that a store may take to answer
_OWN = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs")  # schemes that pyarrow opens by itself; fsspec opens the others
_OBJECTS = ("s3", "gcs", "abfs", "memory", "s3a", "gs", "az", "oss", "r2")  # a put is whole or absent without a rename
_FINAL = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
_HOPELESS = re.compile(
    "ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|INVALID_CLIENT_TOKEN|offline mode"
)
_DENIED = re.compile(
    "ACCESS_DENIED|FORBIDDEN|INVALID_ACCESS_KEY|SIGNATURE|INVALID_CLIENT_TOKEN|UNAUTHORI[SZ]ED|PERMISSION|GATED"
    "|CREDENTIALS|ANONYMOUS|40[13] CLIENT",
    re.IGNORECASE,
)
_NO_BUCKET = re.compile("NO_SUCH_BUCKET|bucket does not exist", re.IGNORECASE)
_LOOKED_IN = {  # where a store's own tools look for credentials
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or ~/.aws (`aws sts get-caller-identity` tells)",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or what `gcloud auth application-default login` keeps",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS, or what `gcloud auth application-default login` keeps",
    "hf": "HF_TOKEN, or what `hf auth login` keeps; a gated data set asks for consent on its page, too",
}
_Answer = TypeVar("_Answer")
Content = bytes | memoryview  # a memory map's view does for a file that is larger than the memory


class Folder(ABC):
    """Files by names such as "signals/part-000000.parquet".

    Attributes:
        place: the path or URL, as it is told to the user.
    """

    place: str

    @property
    @abstractmethod
    def arrow(self) -> Any:
        """The same folder as a `pyarrow.fs.FileSystem`, for readers that want a part of a file; names are the same."""

    @abstractmethod
    def list(self, prefix: str = "") -> Sequence[str]:
        """Names that begin so, sorted; what is temporary has none."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The bytes of a file. Raises FileNotFoundError."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""

    @abstractmethod
    def put(self, name: str, content: Content) -> None:
        """Write a file, in place of one of that name. Raises UsageError where that is a device, a pipe or a folder."""

    @abstractmethod
    def put_new(self, name: str, content: Content) -> bool:
        """Write a file where there is none of that name. Of several at the same time one is told True.

        A store that cannot create under a condition (pyarrow's own S3 and GCS) may tell two so, where both began to
        write before either had ended: the later one's file stays.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""

    @abstractmethod
    def inside(self, name: str) -> Folder:
        """The folder of that name in this one."""


class LocalFolder(Folder):
    """A folder on a disk; it need not exist before the first put."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.place = str(path)

    @property
    def arrow(self) -> Any:
        from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

        return SubTreeFileSystem(str(self.path.absolute()), LocalFileSystem())

    def list(self, prefix: str = "") -> Sequence[str]:
        names = []
        for place, folders, files in os.walk(self.path / prefix.rpartition("/")[0]):
            folders[:] = [name for name in folders if not is_temporary(name)]  # those that are walked into
            base = Path(place).relative_to(self.path)
            names += [(base / name).as_posix() for name in files if not is_temporary(name)]
        return sorted(name for name in names if name.startswith(prefix))

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def put(self, name: str, content: Content) -> None:
        with replacing(self.path / name) as temporary:
            temporary.write_bytes(content)

    def put_new(self, name: str, content: Content) -> bool:
        return add_file(self.path / name, content)

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def inside(self, name: str) -> LocalFolder:
        return LocalFolder(self.path / name)


class StoredFolder(Folder):
    """A folder in a `pyarrow.fs.FileSystem`: a store of objects, or another machine's disk.

    Args:
        filesystem: where; fsspec's through `FSSpecHandler`. root: the path in it. place: what the user calls it.
    """

    def __init__(self, filesystem: Any, root: str, place: str) -> None:
        self.filesystem, self.root, self.place = filesystem, root.rstrip("/"), place.rstrip("/")

    @property
    def arrow(self) -> Any:
        from pyarrow.fs import SubTreeFileSystem

        return SubTreeFileSystem(self.root, self.filesystem)

    def list(self, prefix: str = "") -> Sequence[str]:
        from pyarrow.fs import FileSelector, FileType

        base = self._at(prefix.rpartition("/")[0])
        selector = FileSelector(base, allow_not_found=True, recursive=True)
        found = self.insist(prefix, lambda: self.filesystem.get_file_info(selector))
        files = [info.path for info in found if info.type == FileType.File]
        names = (path.lstrip("/")[len(self.root.lstrip("/")) :].lstrip("/") for path in files)
        return sorted(name for name in names if name.startswith(prefix) and not any(map(is_temporary, name.split("/"))))

    def read(self, name: str) -> bytes:
        def whole() -> bytes:
            with self.filesystem.open_input_stream(self._at(name), compression=None) as stream:
                return bytes(stream.read())

        return self.insist(name, whole)

    def has(self, name: str) -> bool:
        from pyarrow.fs import FileType

        info = self.insist(name, lambda: self.filesystem.get_file_info(self._at(name)))
        return bool(info.type == FileType.File)

    def put(self, name: str, content: Content) -> None:
        path = self._at(name)
        if self._protocols & {*_OBJECTS}:
            spec = self._fsspec  # its streams are closed, and so published, when they are thrown away after an error
            write = partial(self._write, path, content) if spec is None else partial(spec.pipe_file, path, content)
            self.insist(name, write)
            return
        temporary = temporary_name(Path(path)).as_posix()  # a disk behind a network: a rename makes it whole
        try:
            self.insist(name, lambda: self._write(temporary, content))
            self.insist(name, lambda: self.filesystem.move(temporary, path))
        except BaseException:
            self.remove(temporary[len(self.root) + 1 :])
            raise

    def put_new(self, name: str, content: Content) -> bool:
        if self.has(name):
            return False
        if (spec := self._fsspec) is not None:  # its stores create under a condition, where they have one
            try:
                self.insist(name, partial(spec.pipe_file, self._at(name), content, mode="create"))
            except FileExistsError:
                return self.read(name) == content  # our own, where the first answer was lost
            except (TypeError, NotImplementedError):  # it has no such mode
                pass
            else:
                return True
        self.put(name, content)
        return self.read(name) == content

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self.insist(name, lambda: self.filesystem.delete_file(self._at(name)))

    def inside(self, name: str) -> StoredFolder:
        return StoredFolder(self.filesystem, self._at(name), f"{self.place}/{name}")

    def _at(self, name: str) -> str:
        return f"{self.root}/{name}".rstrip("/")

    @property
    def _fsspec(self) -> Any:
        """The fsspec file system behind; None where it is pyarrow's own."""
        return getattr(getattr(self.filesystem, "handler", None), "fs", None)

    @property
    def _protocols(self) -> set[str]:
        """The names by which the store is known."""
        if self._fsspec is None:
            return {self.filesystem.type_name}
        names = self._fsspec.protocol
        return {names} if isinstance(names, str) else {*names}

    def _write(self, path: str, content: Content) -> None:
        """One write of the whole. The stream is closed, which publishes it, only where that went well."""
        try:
            stream = self.filesystem.open_output_stream(path, compression=None)
        except FileNotFoundError:  # not a store of objects: the folder must be there first
            self.filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            stream = self.filesystem.open_output_stream(path, compression=None)
        stream.write(content)
        stream.close()

    def insist(self, name: str, action: Callable[[], _Answer]) -> _Answer:
        """What `action` gives, tried again where the store fails. Raises StoreError: file, fault and cure."""
        for attempt in range(ATTEMPTS):
            try:
                return _within(PATIENCE, action)
            except _FINAL:
                raise
            except OSError as error:
                hopeless = isinstance(error, PermissionError) or _HOPELESS.search(str(error))
                if attempt == ATTEMPTS - 1 or hopeless:
                    raise _explained(f"{self.place}/{name}".rstrip("/"), name, error) from error
            time.sleep(PAUSE * 2**attempt * random.uniform(0.5, 1.5))
        raise AssertionError("unreachable")


def _explained(place: str, name: str, error: OSError) -> StoreError:
    """What a store said against `place`, whose name in it is `name`, with the cure."""
    said = str(error)
    words = said.replace(name or place, "")  # what a file is called is no reason
    scheme, _, rest = place.partition("://")
    if _NO_BUCKET.search(words):
        told = f"{scheme}://{rest.partition('/')[0]} is not there"
        return StoreError("no such bucket", f"{told}. Look at its name, its account and region.")
    if isinstance(error, PermissionError) or _DENIED.search(words):
        where = _LOOKED_IN.get(scheme, "the places where the store's own tools look")
        told = f"{place} may not be read or written, or is not there ({said})"
        return StoreError("access denied", f"{told}. Credentials are looked for in {where}.")
    cure = "Is it reachable from here, and is the endpoint right (AWS_ENDPOINT_URL)? Then start again."
    return StoreError("store unreachable", f"{place}: the store fails ({said}). {cure}")


def open_folder(place: str | os.PathLike[str]) -> Folder:
    """The folder at a path or URL (s3://, gs://, abfs://, hdfs://, hf://, or any that fsspec knows); nothing is read.

    Credentials come from where the store's own tools look for them, never from the URL. Raises UsageError for a URL
    that cannot be meant, MissingExtra where the package of its scheme is not installed.
    """
    if not is_url(place):
        return LocalFolder(place)
    url = str(place)
    parts = urlsplit(url)
    if parts.password is not None:
        told = f"{parts.scheme}://...@{parts.netloc.rpartition('@')[2]}{parts.path} holds a password"
        raise UsageError(f"{told}. Put them where the store's tools look: its configuration file or variables.")
    if not (parts.netloc + parts.path).strip("/"):
        raise UsageError(f"{url} names no bucket and no folder; name one, as s3://bucket/run.")
    if parts.scheme == "file":
        return LocalFolder(unquote(parts.path))
    filesystem, root = _open_own(url) if parts.scheme in _OWN else _open_fsspec(url, parts.scheme)
    return StoredFolder(filesystem, root, url.partition("?")[0])


def is_url(place: str | os.PathLike[str]) -> bool:
    """Whether a place is named by a URL and not by a path."""
    return isinstance(place, str) and re.match(r"[a-zA-Z][\w+.-]+:(//|:)", place) is not None


def _open_own(url: str) -> tuple[Any, str]:
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    where, _, query = url.partition("?")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get(
        "AWS_ENDPOINT_URL"
    )  # pyarrow does not look there
    if where.startswith("s3://") and endpoint and "endpoint_override" not in query:
        parts = urlsplit(endpoint)
        query = "&".join(filter(None, [query, f"scheme={parts.scheme}", f"endpoint_override={parts.netloc}"]))
    try:
        filesystem, root = FileSystem.from_uri(quote(where, safe=":/@") + f"?{query}" * bool(query))
    except (OSError, ValueError, pa.ArrowException) as error:
        cure = "Is the bucket's name right, and may you read it?"
        raise UsageError(f"{url} cannot be opened ({error}). {cure}") from error
    return filesystem, root


def _open_fsspec(url: str, scheme: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    try:
        filesystem, root = url_to_fs(url)
    except ImportError as error:
        raise MissingExtra(f"{url} needs a package that is not installed: {error}") from error
    except ValueError as error:  # an unknown scheme, among others
        raise UsageError(f"{url} cannot be opened ({error}). Name a path, or a URL that fsspec knows.") from error
    return PyFileSystem(FSSpecHandler(filesystem)), root


def _within(seconds: float, action: Callable[[], _Answer]) -> _Answer:
    """What `action` gives. Raises TimeoutError where it takes longer; it is then left to end by itself."""
    answer: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def work() -> None:
        try:
            answer.put((action(), None))
        except BaseException as error:
            answer.put((None, error))

    Thread(target=work, daemon=True).start()
    try:
        value, error = answer.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"no answer within {seconds:g} seconds") from None
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]
