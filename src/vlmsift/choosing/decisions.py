"""The account of a selection: each row is ruled out, kept or passed over. In: causes and choices. Out: `DECISIONS`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vlmsift.choosing.candidates import Candidates, Cause, Choice
from vlmsift.choosing.selection import DECISIONS


class Decisions:
    """Decisions about `rows` (N), as they fall."""

    def __init__(self, rows: Candidates) -> None:
        self.rows, self.kept = rows, 0
        self.open = np.ones(len(rows), np.bool_)  # (N,), the rows that no cause has ruled out
        self.ruled_out: dict[str, int] = {}  # label of a cause -> how many rows it ruled out first
        self._parts: list[Any] = []

    def rule_out(self, causes: Iterable[Cause], places: NDArray[np.int64] | None = None) -> None:
        """Drop the rows at `places` (n,), None = all, for the first of the causes (each over those n) that holds."""
        places = np.arange(len(self.rows)) if places is None else places
        for cause in causes:
            fresh = np.flatnonzero(cause.mask & self.open[places])  # (dropped now,), among the n
            reason = cause.reason
            reasons = pa.repeat(reason, len(fresh)) if isinstance(reason, str) else reason.take(pa.array(fresh))
            self._enter(places[fresh], reasons)
            self.open[places[fresh]] = False
            if len(fresh):
                self.ruled_out[cause.label] = self.ruled_out.get(cause.label, 0) + len(fresh)

    def settle(self, places: NDArray[np.int64], choice: Choice) -> None:
        """Enter a selector's choice among the rows at `places` (n,); its kept rows rank after those kept before."""
        ranks = np.zeros(len(places), np.int64)
        ranks[choice.kept] = self.kept + 1 + np.arange(len(choice.kept))
        reasons = pc.if_else(pa.array(ranks == 0), choice.reasons, pa.scalar(None, pa.string()))
        self._enter(places, reasons, choice.groups, pa.array(ranks, mask=ranks == 0))
        self.kept += len(choice.kept)

    def table(self, value: NDArray[np.floating[Any]]) -> Any:
        """The table of schema `DECISIONS`, in the pool's order, with the rows' `value` (N,)."""
        parts = pa.concat_tables(self._parts)
        parts = parts.take(pc.sort_indices(parts["place"]))  # every row was entered once: N rows, as in `self.rows`
        columns = {name: self.rows.table[name] for name in ("id", "index")}
        columns |= {name: parts[name] for name in ("rank", "group", "reason")}
        columns |= {"kept": pc.is_valid(parts["rank"]), "value": pa.array(value, pa.float64(), from_pandas=True)}
        table = pa.table([columns[field.name] for field in DECISIONS], schema=DECISIONS)
        return table.take(pc.sort_indices(table["index"])).combine_chunks()

    def _enter(self, places: NDArray[np.int64], reasons: Any, groups: Any = None, ranks: Any = None) -> None:
        columns = {"place": pa.array(places), "reason": reasons, "group": groups, "rank": ranks}
        kinds = {"place": pa.int64(), "reason": pa.string(), "group": pa.string(), "rank": pa.int64()}
        absent = pa.nulls(len(places))
        parts = [pc.cast(absent if columns[name] is None else columns[name], kind) for name, kind in kinds.items()]
        self._parts.append(pa.table(parts, names=list(kinds)))
