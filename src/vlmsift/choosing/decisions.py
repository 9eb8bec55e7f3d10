"""The account of a selection: each row is ruled out, kept or passed over. In: causes and choices. Out: `DECISIONS`.

Per row it holds three numbers; the words are made when they are asked for, a piece of the pool at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from vlmsift.choosing.candidates import Candidates, Cause, Choice, Places
from vlmsift.choosing.order import place_type
from vlmsift.choosing.words import same

DECISIONS = pa.schema(
    [
        ("id", pa.string()),
        ("index", pa.int64()),  # row of the pool
        ("kept", pa.bool_()),
        ("rank", pa.int64()),  # 1 is the best; null where dropped
        ("value", pa.float64()),  # of the signal that ranked, where it is one number
        ("group", pa.string()),  # null where the row could not be chosen
        ("reason", pa.string()),  # null where kept
    ]
)


OWN = None
"""As a cause's reason: what the run says of each row itself."""


class _Entry(NamedTuple):
    """What one cause, or one selector, had to say of its rows."""

    reasons: Any  # words, or `OWN`
    groups: Any  # words; None = they have none


class Decisions:
    """Decisions about `rows` (N), which are all rows of a run, as they fall.

    Args:
        value: the scalar column that ranks, where there is one.
    """

    def __init__(self, rows: Candidates, value: str | None = None) -> None:
        self.rows, self.kept, self._value = rows, 0, value
        self.open = np.ones(len(rows), np.bool_)  # (N,), the rows that no cause has ruled out
        self.ruled_out: dict[str, int] = {}  # label of a cause -> how many rows it ruled out first
        kind = place_type(len(rows))
        # of each row of the run, in the pool's order: (N,) each
        self._entry, self._place = np.zeros(len(rows), np.int16), np.zeros(len(rows), kind)
        self._rank = np.zeros(len(rows), kind)  # 0 where dropped
        self._entries: list[_Entry] = []

    def __len__(self) -> int:
        return len(self.rows)

    def rule_out(self, causes: Iterable[Cause], places: Places | None = None) -> None:
        """Drop the rows at `places` (n,), None = all, for the first of the causes (each over those n) that holds."""
        for cause in causes:
            fresh = np.flatnonzero(cause.mask & (self.open if places is None else self.open[places]))  # among the n
            at = fresh if places is None else places[fresh]
            reason = cause.reason
            self._enter(at, fresh, same(reason, len(cause.mask)) if isinstance(reason, str) else reason)
            self.open[at] = False
            if len(fresh):
                self.ruled_out[cause.label] = self.ruled_out.get(cause.label, 0) + len(fresh)

    def settle(self, places: Places, choice: Choice) -> None:
        """Enter a selector's choice among the rows at `places` (n,); its kept rows rank after those kept before."""
        self._enter(places, np.arange(len(places), dtype=self._place.dtype), choice.reasons, choice.groups)
        self._rank[self.rows.rows[places[choice.kept]]] = self.kept + 1 + np.arange(len(choice.kept))
        self.kept += len(choice.kept)

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """Those of the columns `DECISIONS`, in the pool's order, as `pyarrow.RecordBatch`es."""
        schema = pa.schema([DECISIONS.field(name) for name in columns])
        source = self.rows.columns
        stored = [name for name in ("id", "index", "reason") if name in columns]
        start = 0
        for batch in source.batches(stored or ["index"]):
            part = slice(start, start + len(batch))
            found = [self._column(name, part, batch) for name in columns]
            yield pa.RecordBatch.from_arrays(found, schema=schema)
            start += len(batch)

    def _column(self, name: str, part: slice, batch: Any) -> Any:
        rank = self._rank[part]
        if name == "kept":
            return pa.array(rank > 0)
        if name == "rank":
            return pa.array(rank, pa.int64(), mask=rank == 0)
        if name == "value":
            if self._value is None:
                return pa.nulls(len(rank), pa.float64())
            return pa.array(self.rows.columns.number(self._value)[part], pa.float64(), from_pandas=True)
        if name in ("group", "reason"):
            return self._words(part, name, batch)
        return batch[name]

    def _words(self, part: slice, name: str, batch: Any) -> Any:
        """The groups or the reasons of a part of the pool."""
        entries, places = self._entry[part], self._place[part]
        kept = self._rank[part] > 0
        found, where = [], []  # words, and the rows that they belong to
        for number in np.unique(entries).tolist():
            entry = self._entries[number]
            mine = (entries == number) & ~(kept & (name == "reason"))
            at = np.flatnonzero(mine)
            words = entry.groups if name == "group" else entry.reasons
            if words is not None:
                found.append(words.take(pa.array(places[at])))
            elif name == "reason":
                found.append(batch["reason"].take(pa.array(at)))
            else:
                continue
            where.append(at)
        order = np.full(len(entries), -1, np.int64)
        order[np.concatenate([np.zeros(0, np.int64), *where])] = np.arange(sum(map(len, where)))
        texts = pa.concat_arrays([pa.array([], pa.string()), *map(_flat, found)])
        return texts.take(pa.array(order, mask=order < 0))

    def _enter(self, at: Places, places: Places, reasons: Any, groups: Any = None) -> None:
        """One entry about the candidates `at` (n,), whose words are those at `places` (n,) of `reasons`, `groups`."""
        rows = self.rows.rows[at]
        self._entry[rows], self._place[rows] = len(self._entries), places
        self._entries.append(_Entry(reasons, groups))


def _flat(words: Any) -> Any:
    return (words.combine_chunks() if isinstance(words, pa.ChunkedArray) else words).cast(pa.string())
