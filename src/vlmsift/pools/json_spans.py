"""Where the rows of a JSON text lie. In: a file's bytes, memory-mapped. Out: (N, 2) int64 byte ranges, begin and end.

Nothing is decoded and no tree is built: 1 GB of JSON costs 16 bytes per row beside the mapping itself.
"""

from __future__ import annotations

import re

import msgspec
import numpy as np

from vlmsift.errors import FormatError
from vlmsift.places import Place
from vlmsift.pools.json_faults import BLOCK, Buffer, Spans, split_slowly

_GAP = re.compile(rb"[\s,]*")
_OBJECT = re.compile(rb"\s*\{")


class _Wrapped(msgspec.Struct):
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def is_lines(buffer: Buffer, begin: int) -> bool:
    """Whether a text that starts with `{` holds one object per line: line 1 ends with `}` and another `{` follows."""
    newline = buffer.find(b"\n", begin)
    if newline < 0 or not buffer[max(begin, newline - 16) : newline].rstrip().endswith(b"}"):
        return False
    return bool(_OBJECT.match(buffer, newline))


def line_spans(buffer: Buffer, begin: int) -> Spans:
    """(N, 2) ranges of the lines from byte `begin` on; blank lines and line ends are left out."""
    if len(buffer) == begin:
        return np.empty((0, 2), np.int64)
    view = np.frombuffer(buffer, np.uint8)
    found = [np.flatnonzero(view[at : at + BLOCK] == ord("\n")) + at for at in range(begin, len(view), BLOCK)]
    ends = np.append(np.concatenate(found), len(view)).astype(np.int64)  # (lines,)
    starts = np.append(begin, ends[:-1] + 1).astype(np.int64)
    filled = ends > starts
    starts, ends = starts[filled], ends[filled]  # (lines that are not empty,)
    ends -= view[ends - 1] == ord("\r")
    keep = ends > starts
    for line in np.flatnonzero(np.isin(view[starts], list(b" \t\r\v\f")) & keep):  # only such a one can be blank
        keep[line] = bool(buffer[starts[line] : ends[line]].strip())
    return np.stack([starts, ends], axis=1)[keep]  # (N, 2)


def array_spans(buffer: Buffer, begin: int, path: Place) -> Spans:
    """(N, 2) ranges of the elements of a JSON list, or of the list under "data" in a JSON object.

    Raises:
        FormatError: the text is not JSON or not such a list; names the file, the line and the byte.
    """
    view, first = memoryview(buffer)[begin:], buffer[begin : begin + 1]
    if first not in (b"[", b"{"):
        found = f"starts with {buffer[begin : begin + 20]!r}"
        raise FormatError(f"{path}: {found}; a JSON pool starts with [ and holds a list of rows.")
    try:
        if first == b"{":
            wrapped = msgspec.json.decode(view, type=_Wrapped).data
            if isinstance(wrapped, msgspec.UnsetType):
                raise _no_list(buffer[begin:], path)
            inner = memoryview(wrapped)
            raws = msgspec.json.decode(inner, type=list[msgspec.Raw])
            begin += _address(inner) - _address(view)
        else:
            raws = msgspec.json.decode(view, type=list[msgspec.Raw])
    except msgspec.ValidationError as error:
        wanted = 'a list of rows, or an object with such a list under "data"'
        raise FormatError(f"{path}: needs {wanted}: {error}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        if first == b"{":
            raise FormatError(f"{path}: not JSON: {error}. Repair the file, or download it again.") from None
        # What Python's own json module writes, NaN for one, is more than JSON: split by hand, judge each row.
        return split_slowly(buffer, begin, path)
    spans = np.empty((len(raws), 2), np.int64)
    end = begin + 1  # past the opening bracket
    for row, raw in enumerate(raws):
        gap = _GAP.match(buffer, end)
        start = gap.end() if gap else end
        end = start + memoryview(raw).nbytes
        spans[row] = start, end
    return spans


def _address(view: memoryview) -> int:
    """Address of a view's first byte: tells where in the file a nested piece lies."""
    return int(np.frombuffer(view, np.uint8).__array_interface__["data"][0])


def _no_list(text: bytes, path: Place) -> FormatError:
    keys = ", ".join(map(repr, msgspec.json.decode(text, type=dict[str, msgspec.Raw])))
    return FormatError(
        f"{path}: holds one object (keys: {keys[:200]}), not a list of rows. Put [ ] around it, "
        'or the rows in a list under "data", or one object per line in a file named .jsonl.'
    )
