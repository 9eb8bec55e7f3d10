"""What a part tells of itself in its metadata, so that a run of many is summed up without reading their rows.

In: a part's table. Out: counts of its rows and a digest of each column, kept as JSON beside the columns. A part of an
earlier version has none; the same facts are then worked out from its rows.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlmsift.errors import split_reason

KEY = b"vlmsift.facts"  # in the metadata of a part


class PartFacts(msgspec.Struct):
    """What is known of a part's n rows."""

    rows: int
    ok: int
    text_only: int
    ok_text_only: int
    errors: dict[str, int]  # kind -> rows
    undefined: dict[str, int]  # signal -> ok rows without it
    digests: dict[str, str]  # column -> sha256 (hex) of its values, however they are packed or compressed
    not_asked: int = 0

    def encode(self) -> bytes:
        """As it stands in the metadata."""
        return msgspec.json.encode(self)


def facts_of(table: Any, signals: Iterable[str]) -> PartFacts:
    """Of the rows of one part, a `pyarrow.Table`."""
    ok, failed = (pc.equal(table["status"], state).to_numpy() for state in ("ok", "error"))  # (n,) each
    text = table["images"].to_numpy() == 0  # (n,)
    reasons = table["reason"].filter(pa.array(failed)).to_pylist()
    return PartFacts(
        rows=len(table),
        ok=int(ok.sum()),
        text_only=int(text.sum()),
        ok_text_only=int((ok & text).sum()),
        errors=dict(Counter(split_reason(reason)[0] for reason in reasons)),
        undefined={name: int((table[name].is_null().to_numpy() & ok).sum()) for name in signals},
        digests={name: digest(table[name]) for name in table.column_names},
        not_asked=int(len(table) - (ok | failed).sum()),
    )


def facts_in(metadata: Any) -> PartFacts | None:
    """Those that a file's metadata hold; None where it has none. Raises OSError for damaged ones."""
    if KEY not in (metadata or {}):
        return None
    try:
        return msgspec.json.decode(metadata[KEY], type=PartFacts)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise OSError(f"damaged: {error}") from error


def summed(parts: Iterable[PartFacts], signals: Iterable[str], pool_rows: int) -> dict[str, Any]:
    """The counts of many parts, as `Run.summary` tells them."""
    errors, undefined = Counter[str](), Counter[str](dict.fromkeys(signals, 0))
    rows = ok = text_only = not_asked = 0
    for facts in parts:
        rows, ok, text_only = rows + facts.rows, ok + facts.ok, text_only + facts.text_only
        not_asked += facts.not_asked
        errors.update(facts.errors)
        undefined.update(facts.undefined)
    counts = {"rows": rows, "missing": pool_rows - rows, "not_asked": not_asked, "ok": ok, "text_only": text_only}
    return {**counts, "errors": dict(errors.most_common()), "undefined": dict(undefined)}


def digest(column: Any) -> str:
    """sha256 (hex) of a column's type, of which of its values are null, and of the others."""
    found = hashlib.sha256()
    _feed(found, column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column)
    return found.hexdigest()


def _feed(found: Any, values: Any) -> None:
    nested = pa.types.is_list(values.type)  # whose type has a name for its elements, which files give it as they like
    there = values.is_valid().to_numpy(zero_copy_only=False)  # (n,)
    found.update(f"{'list' if nested else values.type} {len(values)} ".encode() + np.packbits(there).tobytes())
    dense = values.drop_null()
    if nested:
        found.update(pc.list_value_length(dense).to_numpy().astype("<i4").tobytes())
        _feed(found, dense.flatten())
    elif pa.types.is_string(values.type):
        found.update(pc.binary_length(dense).to_numpy().astype("<i4").tobytes())
        _, offsets, texts = dense.buffers()
        ends = np.frombuffer(offsets or b"", "<i4")[dense.offset :][: len(dense) + 1]  # (n + 1,)
        found.update(texts[int(ends[0]) : int(ends[-1])] if texts and len(dense) else b"")
    else:
        found.update(np.ascontiguousarray(dense.to_numpy(zero_copy_only=False)).tobytes())
