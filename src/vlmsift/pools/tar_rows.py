"""Rows of WebDataset shards (tar). In: the shards, in order. Out: rows by an index of members, and members copied.

Files that follow each other and are called alike up to the first dot are one row: `000017.json` and `000017.jpg`. The
`.json` is its fields; each image is put where the fields name it (by its name, or by what follows the first dot), or,
in order, for what `image` or `images` lists, or into one of these. A `.txt` without a conversation in the fields is
what is to be said of the images. Files of other kinds are no part of the row; a copied row takes them along.

A shard is read once, in sequence, for the index. In a store, that leaves a copy here with holes where the images are:
then a row costs one request for its images.
"""

from __future__ import annotations

import io
import json
import mmap
import os
import tarfile
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlmsift.errors import FormatError, SampleError
from vlmsift.places import Place, StorePath
from vlmsift.pools.ids import ID_FIELDS
from vlmsift.pools.local_copies import local_files
from vlmsift.pools.rows import numbers
from vlmsift.types import IMAGE_MARK

TEXTS = frozenset({"json", "txt"})
IMAGES = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm"})
END = bytes(2 * tarfile.BLOCKSIZE)  # of an archive
_AHEAD = 1 << 23  # bytes that are read of a store at a time: 8 MiB


class _Shard:
    """Where the members of one archive lie.

    Attributes:
        members: (M, 3) int64: where its header begins, where its bytes begin, how many there are.
        names: M, what follows the first dot. keys: N, what stands before it. starts: (N + 1,), each row's first member.
    """

    def __init__(self, path: Place, local: Path) -> None:
        self.names, self.keys, starts, members = list[str](), list[str](), list[int](), list[tuple[int, int, int]]()
        known: dict[str, str] = {}  # few names: share the strings
        try:
            with tarfile.open(local, "r:") as archive:
                for member in archive:
                    archive.members = []  # type: ignore[attr-defined]  # it would keep them all
                    key, name = _split(member.name)
                    if not member.isreg() or not name:
                        continue
                    if not self.keys or self.keys[-1] != key:
                        self.keys.append(key)
                        starts.append(len(members))
                    self.names.append(known.setdefault(name, name))
                    members.append((member.offset, member.offset_data, member.size))
        except (tarfile.TarError, OSError, EOFError) as error:
            raise FormatError(f"{path}: not a whole tar archive: {error}. Download it again.") from error
        self.members: NDArray[np.int64] = np.array(members, np.int64).reshape(-1, 3)
        self.starts = [*starts, len(members)]


class TarRows:
    """Rows of one archive, or of several one after another. Safe to pickle and to use after a fork.

    Raises FormatError for what is no whole tar archive; a row whose members make no sense is only unreadable.
    """

    container = "tar"

    def __init__(self, files: tuple[Place, ...]) -> None:
        self.files, self._local = files, local_files(files, copy_texts)
        self._shards = [_Shard(*pair) for pair in zip(files, self._local, strict=True)]
        self._first_rows = np.cumsum([0, *(len(shard.keys) for shard in self._shards)]).tolist()
        self._maps: dict[int, Any] = {}
        self._open: tuple[int, int, Any] | None = None  # process, shard and its file in the store, of the last image

    def __len__(self) -> int:
        return int(self._first_rows[-1])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}, "_open": None}

    def __getitem__(self, index: int) -> dict[str, Any]:
        key, texts, pictures = self._members(index)
        number, _ = self._place(index)
        begin, end = min(place for _, place, _ in pictures) if pictures else 0, 0
        end = max((place + size for _, place, size in pictures), default=0)
        try:
            together = self._read(number, begin, end - begin) if pictures else b""  # they lie side by side
        except OSError as error:
            raise SampleError("unreadable row", f"its images cannot be read: {error}") from error
        images = {name: together[place - begin : place - begin + size] for name, place, size in pictures}
        return compose(key, texts, images)

    def fields(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """For every row the named fields that its `.json` has; images are not read."""
        for index in range(len(self)):
            key, texts, _ = self._members(index)
            try:
                row = _named(key, _decoded(texts))
            except SampleError:
                row = _named(key, {})
            yield {name: row[name] for name in names if name in row}

    def copy(self, indices: NDArray[np.int64], out: Path, container: str) -> None:
        """Write the rows' members to one archive, headers and all."""
        with out.open("wb") as file:
            for index in numbers(indices):
                number, row = self._place(index)
                shard = self._shards[number]
                first, last = shard.starts[row], shard.starts[row + 1] - 1
                begin, end = int(shard.members[first, 0]), int(shard.members[last, 1:].sum())
                whole = -(-(end - begin) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                file.write(self._read(number, begin, whole))
            file.write(END)

    def _place(self, index: int) -> tuple[int, int]:
        """The shard of a row, and which of its rows it is."""
        number = bisect_right(self._first_rows, index) - 1
        return number, index - self._first_rows[number]

    def _members(self, index: int) -> tuple[str, dict[str, bytes], list[tuple[str, int, int]]]:
        """A row's key; its texts by name; names, places and sizes of its images."""
        number, row = self._place(index)
        shard, texts, pictures = self._shards[number], dict[str, bytes](), list[tuple[str, int, int]]()
        for member in range(shard.starts[row], shard.starts[row + 1]):
            name, (_, place, size) = shard.names[member], shard.members[member].tolist()
            kind = name.rpartition(".")[2].lower()
            if kind in TEXTS:
                texts[name] = self._mapped(number)[place : place + size]
            elif kind in IMAGES:
                pictures.append((name, place, size))
        return shard.keys[row], texts, pictures

    def _mapped(self, number: int) -> Any:
        if number not in self._maps:
            with self._local[number].open("rb") as file:
                self._maps[number] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[number]

    def _read(self, number: int, begin: int, size: int) -> bytes:
        path = self.files[number]
        if not isinstance(path, StorePath):
            return bytes(self._mapped(number)[begin : begin + size])
        mine = os.getpid()
        if self._open is None or self._open[:2] != (mine, number):
            self._open = (mine, number, path.open())
        return bytes(self._open[2].read_at(size, begin))


def compose(key: str, texts: Mapping[str, bytes], images: Mapping[str, bytes]) -> dict[str, Any]:
    """A row of its members, by what follows the first dot in their names. Raises SampleError where they do not fit."""
    row, left = _decoded(texts), dict(images)
    row = _with_images(row, key, left, images)
    count, text = len(left), next((text for name, text in texts.items() if name.lower().endswith("txt")), None)
    listed = next((name for name in ("image", "images") if row.get(name)), None)
    if listed is not None and left:
        value = row[listed] if isinstance(row[listed], list) else [row[listed]]
        open_places = [place for place, entry in enumerate(value) if isinstance(entry, str)]
        if len(open_places) != len(left):
            told = f"{listed!r} lists {len(open_places)} images that are no member's name, {len(left)} members are left"
            raise SampleError("wrong image count", told)
        for place, image in zip(open_places, left.values(), strict=True):
            value[place] = {"bytes": image, "path": value[place]}
        row[listed] = value if isinstance(row[listed], list) else value[0]
    elif left:
        stored = [{"bytes": image, "path": f"{key}.{name}"} for name, image in left.items()]
        row["image" if count == 1 else "images"] = stored[0] if count == 1 else stored
    if text is not None and not row.get("conversations") and not row.get("messages"):
        said = text.decode("utf-8", "replace").strip()
        turns = [("human", IMAGE_MARK * len(images)), ("gpt", said)]
        row["conversations"] = [{"from": who, "value": what} for who, what in turns]
    return _named(key, row)


def _with_images(value: Any, key: str, left: dict[str, bytes], images: Mapping[str, bytes]) -> Any:
    """The same value with each text that is an image member's name replaced by it; they are taken out of `left`."""
    if isinstance(value, str):
        name = next((one for one in images if value in (one, f"{key}.{one}", f"{key.rpartition('/')[2]}.{one}")), None)
        if name is None:
            return value
        left.pop(name, None)
        return {"bytes": images[name], "path": value}
    if isinstance(value, dict):
        return {field: _with_images(inner, key, left, images) for field, inner in value.items()}
    return [_with_images(inner, key, left, images) for inner in value] if isinstance(value, list) else value


def _decoded(texts: Mapping[str, bytes]) -> dict[str, Any]:
    """The fields in a row's `.json`; none where it has no such member. Raises SampleError where that is no object."""
    found = [text for name, text in texts.items() if name.lower().endswith("json")]
    try:
        row = json.loads(found[0]) if found else {}
    except (ValueError, RecursionError) as error:
        raise SampleError("unreadable row", f"its .json is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise SampleError("unreadable row", f"its .json is a {type(row).__name__}, not an object: {str(row)[:80]!r}")
    return row


def _named(key: str, row: dict[str, Any]) -> dict[str, Any]:
    """With the key as its `id`, where it has none of its own."""
    return row if any(row.get(name) not in (None, "") for name in ID_FIELDS) else {**row, "id": key}


def _split(name: str) -> tuple[str, str]:
    """ "./train/000017.left.jpg" as "train/000017" and "left.jpg"; no name where it is hidden or has no suffix."""
    folder, slash, base = name.removeprefix("./").rpartition("/")
    stem, _, suffix = base.partition(".")
    return f"{folder}{slash}{stem}", suffix if stem else ""


def copy_texts(path: StorePath, out: Path) -> None:
    """Copy an archive of a store with holes in the place of all but headers and texts; what it reads is in sequence."""
    with path.open() as file, out.open("wb") as written:
        written.truncate(file.size())
        both: Any = _Both(io.BufferedReader(file, _AHEAD), written)
        try:
            with tarfile.open(fileobj=both, mode="r:") as archive:
                for member in archive:
                    archive.members = []  # type: ignore[attr-defined]
                    if member.name.rpartition(".")[2].lower() in TEXTS:
                        both.seek(member.offset_data)
                        both.read(member.size)
        except (tarfile.TarError, EOFError) as error:
            raise FormatError(f"{path}: not a whole tar archive: {error}. Upload it again.") from error


class _Both:
    """A file to read from, whose bytes are written to the same place of another as they are read."""

    def __init__(self, source: Any, copy: Any) -> None:
        self._source, self._copy = source, copy

    def seek(self, place: int, whence: int = 0) -> int:
        return int(self._source.seek(place, whence))

    def tell(self) -> int:
        return int(self._source.tell())

    def read(self, size: int = -1) -> bytes:
        place = self._source.tell()
        found: bytes = self._source.read(size)
        self._copy.seek(place)
        self._copy.write(found)
        return found
