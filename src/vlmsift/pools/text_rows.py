"""Rows of JSON and JSONL files. In: files. Out: rows decoded one at a time, and chosen rows written byte for byte.

Lossless between JSON and JSONL in both directions: the source text of a row is copied, so numbers (`1e0`, twenty
digits), escapes, key order and repeated keys stay as they are. Only line breaks *between* tokens are removed, where a
row must fit one line.
"""

from __future__ import annotations

import json
import mmap
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vlmsift.errors import FormatError, SampleError
from vlmsift.places import Place
from vlmsift.pools.json_faults import Buffer, Spans
from vlmsift.pools.json_spans import array_spans, is_lines, line_spans
from vlmsift.pools.local_copies import local_files
from vlmsift.pools.remembered import remembered
from vlmsift.pools.rows import numbers
from vlmsift.pools.writing import LAYOUTS, write_joined

# A raw line break cannot stand inside a JSON string, so the white space around one is never part of a value. A match
# begins where white space does: tried from each of a million spaces, the search would take a million times as long.
_BREAK = re.compile(rb"(?<!\s)\s*[\r\n]\s*")
LEAST_ROW = 256  # bytes; what a conversation takes at least, to tell a large file from a small one


class TextRows:
    """Rows of one JSON file (a list, or an object with a list under "data"), or of JSONL files read one after another.

    The files, or local copies of those in a store, are memory-mapped and a row's text is found by its byte range. Safe
    to pickle and to use after a fork.
    Raises FormatError for a file that is no list of rows; a broken line of a JSONL file is only an unreadable row.
    """

    def __init__(self, files: tuple[Place, ...]) -> None:
        self.files, self.container = files, "jsonl"
        self._local = local_files(files)
        self._maps: dict[int, Buffer] = {}
        self._spans = [self._found(number) for number in range(len(files))]  # per file (rows, 2)
        self._first_rows = np.cumsum([0, *map(len, self._spans)]).tolist()

    def _found(self, number: int) -> Spans:
        """(rows, 2) of one file; sets the container where that is a list."""
        path, buffer = self.files[number], self._buffer(number)
        begin = 3 if buffer[:3] == b"\xef\xbb\xbf" else 0
        begin += len(buffer[begin : begin + 4096]) - len(buffer[begin : begin + 4096].lstrip())
        listed = buffer[begin : begin + 1] == b"["
        listed = listed or bool(path.suffix == ".json" and buffer[begin : begin + 1] and not is_lines(buffer, begin))
        if listed and len(self.files) > 1:
            raise FormatError(f"{path}: holds a list, but a part must hold one object per line.")
        self.container = "json" if listed else self.container

        def work_out() -> pa.Table:
            spans = array_spans(buffer, begin, path) if listed else line_spans(buffer, begin)
            return pa.table({"span": spans.ravel()})

        likely = len(buffer) // LEAST_ROW  # of so many rows the file may be
        spans = remembered("spans", [path], likely, work_out)["span"]
        return np.asarray(spans.chunk(0).to_numpy()).reshape(-1, 2)

    def __len__(self) -> int:
        return int(self._first_rows[-1])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    def _buffer(self, number: int) -> Buffer:
        if number not in self._maps:
            with self._local[number].open("rb") as file:
                empty = file.seek(0, 2) == 0  # which cannot be mapped
                self._maps[number] = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[number]

    def raw(self, index: int) -> memoryview:
        """The source text of row `index`, uncopied."""
        number = bisect_right(self._first_rows, index) - 1
        start, end = self._spans[number][index - self._first_rows[number]].tolist()
        return memoryview(self._buffer(number))[start:end]

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            row = json.loads(bytes(self.raw(index)))
        except (ValueError, RecursionError) as error:
            raise SampleError("unreadable row", f"not JSON: {error}") from None
        if not isinstance(row, dict):
            raise SampleError("unreadable row", f"it is a {type(row).__name__}, not an object: {str(row)[:80]!r}")
        return row

    def fields(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """For every row the named fields that it has, as values; other fields are skipped over undecoded."""
        keys = [f"field_{number}" for number in range(len(names))]
        called = dict(zip(keys, names, strict=True))
        decoder = msgspec.json.Decoder(
            msgspec.defstruct("Fields", [(key, Any, msgspec.UNSET) for key in keys], rename=called)
        )
        for index in range(len(self)):
            try:
                values = msgspec.structs.astuple(decoder.decode(self.raw(index)))
                yield {name: value for name, value in zip(names, values, strict=True) if value is not msgspec.UNSET}
            except (ValueError, RecursionError):
                yield self._fields_slowly(index, names)

    def _fields_slowly(self, index: int, names: Sequence[str]) -> dict[str, Any]:
        """For rows that only Python's json module reads (NaN, half surrogates) or nothing does."""
        try:
            row = self[index]
        except SampleError:
            return {}
        return {name: row[name] for name in names if name in row}

    def copy(self, indices: NDArray[np.int64], out: Path, container: str) -> None:
        """Write rows to a JSON or JSONL file, their text unchanged. A JSON list keeps the indentation of its source.

        Raises FormatError where a broken line is to become part of a JSON list, which no reader could open.
        """
        raws: Iterator[bytes | memoryview] = map(self.raw, numbers(indices))
        if container == "jsonl" and self.container == "json":
            raws = (_BREAK.sub(b"", raw) for raw in raws)
        elif container == "json" and self.container == "jsonl":
            raws = map(_whole, numbers(indices), raws)
        own = container == self.container == "json"
        write_joined(raws, out, self._layout() if own else LAYOUTS[container])

    def _layout(self) -> tuple[bytes, bytes, bytes]:
        """What stands before, between and after the rows of the source list, so that exporting all of it copies it."""
        buffer, spans = self._buffer(0), self._spans[0]
        separator = buffer[spans[0, 1] : spans[1, 0]] if len(spans) > 1 else b",\n"
        return buffer[: spans[0, 0]].removeprefix(b"\xef\xbb\xbf"), separator, buffer[spans[-1, 1] :]


def _whole(index: int, raw: bytes | memoryview) -> bytes | memoryview:
    try:
        json.loads(bytes(raw))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"row {index} cannot go into a JSON list: {error}. Export it as .jsonl instead.") from None
    return raw
