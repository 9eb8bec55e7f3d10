"""Millions of texts as Python sees them. In: Arrow strings. Out: a sequence that makes `str` when asked for one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import eq
from typing import Any, overload

_PIECE = 2**16  # texts that are Python strings at a time


class Texts(Sequence[str]):
    """N texts, as a tuple of them would behave; ten million stay Arrow strings until somebody asks for one.

    Attributes:
        arrow: the `pyarrow.Array` of them.
    """

    def __init__(self, arrow: Any) -> None:
        self.arrow = arrow

    def __len__(self) -> int:
        return len(self.arrow)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[str, ...]: ...
    def __getitem__(self, place: int | slice) -> str | tuple[str, ...]:
        if isinstance(place, slice):
            return tuple(self.arrow[place].to_pylist())
        if not -len(self) <= place < len(self):
            raise IndexError(f"text {place} of {len(self)}")
        found: str = self.arrow[place % len(self)].as_py()
        return found

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _PIECE):
            yield from self.arrow.slice(start, _PIECE).to_pylist()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Texts):
            return bool(self.arrow.equals(other.arrow))
        return isinstance(other, tuple) and len(self) == len(other) and all(map(eq, self, other))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self)) if len(self) <= 20 else f"<{len(self)} texts, {self[0]!r} to {self[-1]!r}>"
