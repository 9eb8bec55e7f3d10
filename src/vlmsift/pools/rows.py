"""Opens a file or folder as a sequence of source rows. In: a path. Out: `Rows`, whatever the container.

A container knows nothing of conversations: `llava.py`, `messages.py` and `sharegpt.py` read what is in a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vlmsift.errors import FormatError, StoreError
from vlmsift.places import Place, StorePath

SUFFIXES = {".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".tar": "tar"}
FAMILIES = {"json": "text", "jsonl": "text", "parquet": "arrow", "dataset": "arrow", "tar": "tar"}
"""The family of each container: rows move within one as they are, byte for byte or as Arrow tables."""


class Rows(Protocol):
    """N source rows, read late, and the lossless writing of some of them."""

    container: str
    files: tuple[Place, ...]  # in row order

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Row `index` as plain Python values. Raises SampleError where it cannot be read."""

    def fields(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """For every row in order, those of the named fields that it has; an unreadable row has none."""

    def copy(self, indices: NDArray[np.int64], out: Path, container: str) -> None:
        """Write the rows `indices`, in that order and unchanged, to `out` in a container of the same kind."""


def numbers(indices: NDArray[np.int64]) -> Iterator[int]:
    """The row numbers one by one, of which few are Python's at a time."""
    for start in range(0, len(indices), 2**16):
        yield from indices[start : start + 2**16].tolist()


def open_rows(path: Place) -> Rows:
    """Open a JSON, JSONL, Parquet or tar file, a folder of parts (not of JSON), or a saved Hugging Face data set.

    Told by content, not by name: a list in a `.jsonl` and one object per line in a `.json` are read as what they are.

    Raises:
        FormatError: nothing there, or nothing that can be read as rows; the message says what was found.
    """
    if not path.exists():
        raise FormatError(f"{path}: no such file or folder. {_around(path)}")
    rows = _open_folder(path) if path.is_dir() else _open_files((path,))
    if len(rows) == 0:
        raise FormatError(f"{path}: holds no rows. A pool needs at least one sample.")
    return rows


def _open_folder(path: Place) -> Rows:
    if (path / "dataset_dict.json").exists():
        splits = sorted(part.name for part in path.iterdir() if (part / "state.json").exists())
        choices = " or ".join(str(path / split) for split in splits)
        raise FormatError(f"{path}: a data set with splits {', '.join(splits)}. Open one of them: {choices}.")
    if (path / "state.json").exists():
        from vlmsift.pools.dataset_rows import DatasetRows

        return DatasetRows(path)
    parts = {suffix: _parts(path, suffix) for suffix in (".parquet", ".jsonl", ".tar")}
    found = {suffix: files for suffix, files in parts.items() if files}
    if len(found) != 1:
        none = "no .parquet, .jsonl or .tar file, and is no saved data set"
        what = f"both {' and '.join(found)} files" if found else none
        cure = "Name one file, or a folder with parts of one kind."
        raise FormatError(f"{path}: the folder holds {what}. {_around(path / '*')} {cure}")
    return _open_files(next(iter(found.values())))


def _parts(path: Place, suffix: str) -> tuple[Place, ...]:
    """Files of one kind in name order; hidden ones are half-written or not meant."""
    names = (part for part in path.iterdir() if part.name.endswith(suffix) and not part.name.startswith("."))
    return tuple(sorted(names))


def _open_files(files: tuple[Place, ...]) -> Rows:
    from vlmsift.pools.text_rows import TextRows

    if special := [file for file in files if not file.is_file()]:
        what = "a folder" if special[0].is_dir() else "a pipe, a socket or a device"
        raise FormatError(f"{special[0]}: {what}, not a file. Write the rows to a file: they are read more than once.")
    try:
        with files[0].open("rb") as file:
            start = bytes(file.read(512))
    except StoreError:
        raise
    except OSError as error:
        raise FormatError(f"{files[0]}: cannot be read: {error.strerror}.") from error
    if start.startswith(b"PAR1"):
        from vlmsift.pools.parquet_rows import ParquetRows

        return ParquetRows(files)
    if files[0].suffix == ".tar" or start[257:262] == b"ustar":
        from vlmsift.pools.tar_rows import TarRows

        return TarRows(files)
    problems = {
        b"version https://git-lfs": "a Git LFS pointer, not the file itself. Run `git lfs pull`.",
        b"\x1f\x8b": "compressed with gzip. Unpack it first: `gunzip FILE`.",
        b"\x28\xb5\x2f\xfd": "compressed with zstandard. Unpack it first: `zstd -d FILE`.",
        b"PK\x03\x04": "a zip archive. Unpack it first.",
        b"\xff\xfe": "UTF-16 text. Save it as UTF-8.",
        b"\xfe\xff": "UTF-16 text. Save it as UTF-8.",
        b"ARROW1": "an Arrow file. Open the folder that `save_to_disk` wrote, or convert it to Parquet.",
    }
    for mark, sentence in problems.items():
        if start.startswith(mark):
            raise FormatError(f"{files[0]}: {sentence}")
    if files[0].suffix == ".parquet":
        raise FormatError(f"{files[0]}: not a Parquet file: it starts with {start[:16]!r}. Download it again.")
    return TextRows(files)


def _around(path: Place) -> str:
    """What the folder holds, for a message about something that is not there."""
    folder = path.parent
    if isinstance(path, StorePath) and not path.bucket.exists():
        return f"Nor is there {path.bucket}. Look at its name, at the account, and at the region or endpoint."
    if not folder.is_dir():
        return f"Nor is there a folder {folder}."
    names = sorted(part.name + ("/" if part.is_dir() else "") for part in folder.iterdir() if part.name[0] != ".")
    more = ", ..." if len(names) > 8 else ""
    return f"{folder} holds: {', '.join(names[:8])}{more}." if names else f"{folder} is empty."
