"""The ids of a selection as Python sees them. In: Arrow strings. Out: a sequence and a mapping that make `str` late."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, overload

_PIECE = 2**16  # ids that are Python strings at a time


class Ids(Sequence[str]):
    """N ids, as a tuple of them would behave; ten million stay Arrow strings until somebody asks for one."""

    def __init__(self, ids: Any) -> None:
        self.arrow = ids  # N strings, `pyarrow.Array`

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
            raise IndexError(f"id {place} of {len(self)}")
        found: str = self.arrow[place % len(self)].as_py()
        return found

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _PIECE):
            yield from self.arrow.slice(start, _PIECE).to_pylist()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Ids):
            return bool(self.arrow.equals(other.arrow))
        return isinstance(other, tuple) and len(self) == len(other) and all(map(str.__eq__, self, other))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self)) if len(self) <= 20 else f"<{len(self)} ids, {self[0]!r} to {self[-1]!r}>"


class Drops(Mapping[str, str]):
    """id -> reason, in the pool's order. Who looks one up, or asks for `items`, has all of them made."""

    def __init__(self, batches: Callable[[Sequence[str]], Iterator[Any]], count: int) -> None:
        self._batches, self._count = batches, count

    @cached_property
    def _by_id(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for batch in self._batches(["id", "kept", "reason"]):
            left = batch.filter(_dropped(batch))
            found.update(zip(left["id"].to_pylist(), left["reason"].to_pylist(), strict=True))
        return found

    def __getitem__(self, key: str) -> str:
        return self._by_id[key]

    def __iter__(self) -> Iterator[str]:
        for batch in self._batches(["id", "kept"]):
            yield from batch.filter(_dropped(batch))["id"].to_pylist()

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<{len(self)} dropped ids with reasons>"


def _dropped(batch: Any) -> Any:
    import pyarrow.compute as pc

    return pc.invert(batch["kept"])
