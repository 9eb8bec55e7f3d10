"""Groups and reasons of millions of rows: kept as codes and numbers, made into words for those that somebody asks for.

In: what the words are made of. Out: N strings that are never all there at once. Where N strings are wanted of a
selector, a `pyarrow.Array` of them does as well: `take` is all that is asked of either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


class Words:
    """N strings, made of their places."""

    def __init__(self, count: int, make: Callable[[NDArray[np.integer[Any]]], Any]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    def take(self, places: Any) -> Any:
        """Those at `places` (n,), as a `pyarrow.Array`."""
        return pc.cast(self._make(np.asarray(places)), pa.string())

    def to_pylist(self) -> list[str]:
        """All of them."""
        found: list[str] = self.take(np.arange(self._count)).to_pylist()
        return found


def same(text: str, count: int) -> Words:
    """One text `count` times."""
    return Words(count, lambda at: pa.repeat(text, len(at)))


def coded(codes: NDArray[np.integer[Any]], names: Sequence[str]) -> Words:
    """The name of each of the `codes` (N,)."""
    known = pa.array(names, pa.string())
    return Words(len(codes), lambda at: known.take(pa.array(codes[at])))


def moved(words: Any, places: NDArray[np.integer[Any]]) -> Words:
    """Of other `words`, those at `places` (N,)."""
    return Words(len(places), lambda at: words.take(pa.array(places[at])))


def shown(values: NDArray[Any], digits: int | None = None, *, exact: bool = False) -> Words:
    """Numbers (N,) as Arrow writes them; rounded first, where `digits` says to how many: in their own precision, or
    `exact`, in float64."""

    def make(at: NDArray[np.integer[Any]]) -> Any:
        some = values[at].astype(np.float64) if exact else values[at]
        return pa.array(some if digits is None else np.round(some, digits).astype(np.float64))

    return Words(len(values), make)


def joined(*parts: Any) -> Words:
    """Each row's parts in one: a text is the same for all, the others are N strings."""
    count = next(len(part) for part in parts if not isinstance(part, str))

    def make(at: NDArray[np.integer[Any]]) -> Any:
        texts = [part if isinstance(part, str) else part.take(pa.array(at)) for part in parts]
        return pc.binary_join_element_wise(*texts, "")

    return Words(count, make)


def either(mask: NDArray[np.bool_], yes: Any, no: Any) -> Words:
    """`yes` where the `mask` (N,) holds, else `no`; each is one text, or N strings."""

    def make(at: NDArray[np.integer[Any]]) -> Any:
        ways = [way if isinstance(way, str) else way.take(pa.array(at)) for way in (yes, no)]
        return pc.if_else(pa.array(mask[at]), *ways)

    return Words(len(mask), make)
