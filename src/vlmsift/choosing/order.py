"""A random order that depends on ids and a seed alone, and the proof that no two ids are the same. In: Columns."""

from __future__ import annotations

import struct
from collections import Counter
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vlmsift.choosing.columns import Columns
from vlmsift.errors import UsageError


def seeded_order(columns: Columns, seed: int) -> NDArray[np.integer[Any]]:
    """(N,) places of the rows in random order by BLAKE2b of seed and id.

    The same ids come in the same order, however they were mixed: up to two ids of one 64-bit hash (for 10^6 ids, one
    pool in 4 * 10^7). Raises UsageError where an id occurs twice.
    """
    hashes = _hashes(columns, seed)
    order = np.argsort(hashes, kind="stable").astype(place_type(len(hashes)), copy=False)
    hashes = hashes[order]
    alike = np.flatnonzero(hashes[1:] == hashes[:-1])  # who is followed by an equal hash
    if len(alike):
        _check_different(columns, np.unique(order[np.append(alike, alike + 1)]))
    return order


def place_type(count: int) -> type[np.signedinteger[Any]]:
    """The smaller integer that numbers so many rows, and twice as many."""
    return np.int32 if count < 2**30 else np.int64


def _hashes(columns: Columns, seed: int) -> NDArray[np.uint64]:
    """(N,), a piece of the ids being Python strings at a time."""
    salt, hashes, start = struct.pack("<Q", seed), np.empty(len(columns), np.uint64), 0
    for batch in columns.batches(["id"]):
        digest = b"".join(
            [blake2b(word.encode(), digest_size=8, salt=salt).digest() for word in batch["id"].to_pylist()]
        )
        hashes[start : start + len(batch)] = np.frombuffer(digest, "<u8")
        start += len(batch)
    return hashes


def _check_different(columns: Columns, places: NDArray[np.integer[Any]]) -> None:
    """Raise UsageError where of the rows at `places`, ascending, two have one id."""
    seen, start = Counter[str](), 0
    for batch in columns.batches(["id"]):
        here = places[(places >= start) & (places < start + len(batch))] - start
        seen.update(batch["id"].take(pa.array(here)).to_pylist())
        start += len(batch)
    if twice := [word for word, count in seen.items() if count > 1]:
        raise UsageError(f"the id {twice[0]!r} occurs more than once; ids must be unique.")
