"""Splits a JSON list that the fast way refused. In: a file's bytes. Out: byte ranges of its rows, or the fault.

Python's json module writes, and reads, more than JSON: NaN, Infinity, halves of surrogate pairs. Such rows are taken.
"""

from __future__ import annotations

import json
import mmap
import re
from array import array
from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from vlmsift.errors import FormatError
from vlmsift.places import Place

Spans = NDArray[np.int64]
Buffer = bytes | mmap.mmap

_TOKEN = re.compile(rb'["\[\]{},]')
BLOCK = 1 << 24  # bytes that are looked at at once


def split_slowly(buffer: Buffer, begin: int, path: Place) -> Spans:
    """(N, 2) byte ranges of the elements of the list that begins at byte `begin`.

    Raises:
        FormatError: a row that is not JSON, or a list that does not end; names the line, the byte and the row.
    """
    spans = array("q")
    depth, start, end = 0, begin + 1, -1
    for at in _structure(buffer, begin):
        character = buffer[at]
        if depth == 1 and character in b",]":  # a row ends here
            start, stop = _trim(buffer, start, at)
            if stop > start or character == ord(",") or spans:
                _judge(buffer, start, stop, len(spans) // 2, path)
                spans.extend((start, stop))
            start = at + 1
        depth += (character in b"[{") - (character in b"]}")
        if depth == 0:
            end = at + 1
            break
    if end < 0:
        where = f"row {len(spans) // 2}, which begins in line {line_of(buffer, start)} (byte {start})"
        raise FormatError(f"{path}: the list does not end; the text stops inside {where}. Download the file again.")
    if buffer[end:].strip():
        line = line_of(buffer, end)
        raise FormatError(f"{path}: more text follows the end of the list in line {line} (byte {end}). Remove it.")
    return np.array(spans, np.int64).reshape(-1, 2)


def _structure(buffer: Buffer, begin: int) -> Iterator[int]:
    """Places of brackets and commas; those inside a text are not counted."""
    at = begin
    while token := _TOKEN.search(buffer, at):
        at = token.end()
        if buffer[token.start()] == ord('"'):
            at = _string_end(buffer, at)
        else:
            yield token.start()


def _string_end(buffer: Buffer, at: int) -> int:
    """Where a string ends whose text begins at byte `at`: behind a quote with an even number of backslashes before."""
    while (quote := buffer.find(b'"', at)) >= 0:
        at = before = quote + 1
        while buffer[before - 2] == ord("\\"):
            before -= 1
        if (at - before) % 2 == 0:
            return at
    return len(buffer)


def _trim(buffer: Buffer, start: int, stop: int) -> tuple[int, int]:
    text = buffer[start:stop]
    return start + len(text) - len(text.lstrip()), start + len(text.rstrip())


def _judge(buffer: Buffer, start: int, stop: int, row: int, path: Place) -> None:
    text = buffer[start:stop]
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        try:
            json.loads(text)
        except (ValueError, RecursionError) as error:
            at, reason = start + getattr(error, "pos", 0), getattr(error, "msg", str(error))  # of a JSONDecodeError
            where = f"line {line_of(buffer, at)} (byte {at}, row {row})"
            cure = "Repair that row, or download the file again."
            raise FormatError(f"{path}: not JSON in {where}: {reason}. {cure}") from None


def line_of(buffer: Buffer, position: int) -> int:
    """1-based line number of a byte; read in blocks, the file may be large."""
    return 1 + sum(buffer[at : min(at + BLOCK, position)].count(b"\n") for at in range(0, position, BLOCK))
