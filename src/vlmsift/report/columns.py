"""A run's columns as a page needs them. In: a run and its selections. Out: arrays of N, one column at a time.

N are the stored rows, in the pool's order. Numbers stay in NumPy and words in Arrow: only rows that are shown, and
seeded draws, become Python values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vlmsift.runs import FIXED, Run

if TYPE_CHECKING:
    from vlmsift.choosing.selection import Selection

POINTS = 2500  # rows in a chart of points, at most
MAPPED = 3000  # rows in the map
PARTS = 64  # of the run that the map's rows are drawn from, at most: vectors are wide
BINS = 36
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


class Spread(NamedTuple):
    """A number's values over the run, for charts and percentiles."""

    name: str
    unit: str
    higher_means: str
    ordered: Floats  # (n,) the defined values, ascending
    undefined: int  # of the rows without an error

    def percentile(self, value: float) -> float:
        """Share of the defined values below, 0 to 100; equal ones count half."""
        below, upto = (np.searchsorted(self.ordered, value, side) for side in ("left", "right"))
        return float(50 * (below + upto) / max(1, len(self.ordered)))


class Share(NamedTuple):
    """How many rows of a kind are kept."""

    label: str | None
    kept: int
    rows: int


@dataclass(frozen=True)
class Columns:
    """The columns of a run."""

    run: Run
    seed: int

    @cached_property
    def index(self) -> Ints:
        """(N,) rows of the pool, ascending."""
        found: Ints = self.run.table(["index"])["index"].to_numpy()
        return found

    @cached_property
    def ok(self) -> NDArray[np.bool_]:
        """(N,) rows without an error."""
        found: NDArray[np.bool_] = pc.equal(self.run.table(["status"])["status"], "ok").to_numpy()
        return found

    @cached_property
    def scalars(self) -> list[str]:
        """Names of the signals that are one number."""
        return [column.name for column in self.run.columns() if not column.is_list]

    def values(self, name: str) -> Floats:
        """(N,) of a column of numbers; NaN where undefined."""
        found: Floats = self.run.table([name])[name].to_numpy().astype(np.float64)
        return found

    def spread(self, name: str) -> Spread:
        """What is known of a signal."""
        values = self.values(name)[self.ok]
        defined = np.sort(values[np.isfinite(values)])
        column = next(column for column in self.run.columns() if column.name == name)
        return Spread(name, column.unit, column.higher_means, defined, len(values) - len(defined))

    def kept(self, selection: Selection) -> NDArray[np.bool_]:
        """(N,) rows that the selection keeps."""
        decisions = selection.decisions
        rows = decisions["index"].to_numpy()[decisions["kept"].to_numpy()]
        return np.isin(self.index, rows)

    def shares(self, name: str, kept: NDArray[np.bool_], most: int = 10) -> list[Share]:
        """Kept and dropped rows per word of a column, the commonest first; after `most` of them the rest as one."""
        table = pa.table({"word": self.run.table([name])[name], "kept": kept.astype(np.int64)})
        found = table.group_by("word").aggregate([("kept", "sum"), ("kept", "count")])
        found = found.sort_by([("kept_count", "descending"), ("word", "ascending")])
        first, rest = found.slice(0, most).to_pylist(), found.slice(most)
        shares = [Share(row["word"], row["kept_sum"], row["kept_count"]) for row in first]
        if len(rest):
            sums = [int(pc.sum(rest[column]).as_py()) for column in ("kept_sum", "kept_count")]
            shares.append(Share(f"{len(rest):,} others", sums[0], sums[1]))
        return shares

    def drawn(self, count: int) -> Ints:
        """(n,) places of at most `count` rows without an error, by the seed."""
        places = np.flatnonzero(self.ok)
        if len(places) <= count:
            return places
        return np.sort(np.random.default_rng(self.seed).choice(places, count, replace=False))

    def vectors(self) -> tuple[str, Ints, Floats] | None:
        """A vector signal's name, places (n,) of drawn rows, and their vectors (n, K); None where there is none."""
        name = next((column.name for column in self.run.columns() if column.is_list), None)
        if name is None:
            return None
        parts = np.array(sorted(self.run.finished_parts()))
        generator = np.random.default_rng(self.seed)
        if len(parts) > PARTS:
            parts = np.sort(generator.choice(parts, PARTS, replace=False))
        each = -(-MAPPED // len(parts))
        places, vectors = [], []
        for part in parts.tolist():
            table = self.run.part(part).select(["index", "status", name])
            table = table.filter((pc.field("status") == "ok") & pc.field(name).is_valid())
            if len(table) > each:
                table = table.take(np.sort(generator.choice(len(table), each, replace=False)))
            if len(table):
                places.append(np.searchsorted(self.index, table["index"].to_numpy()))
                vectors.append(np.stack(table[name].to_numpy()).astype(np.float32))
        if not vectors:
            return None
        joined = np.concatenate(vectors)
        whole = np.isfinite(joined).all(1)
        return name, np.concatenate(places)[whole], joined[whole]

    def rows(self, places: Iterable[int]) -> Mapping[int, Mapping[str, Any]]:
        """Place -> the fixed columns and numbers of that row, read from the parts that hold them."""
        wanted: dict[int, dict[int, int]] = {}  # part -> row of the pool -> place
        for place in dict.fromkeys(places):
            row = int(self.index[place])
            wanted.setdefault(row // self.run.part_size, {})[row] = place
        names = [*FIXED.names, *(name for name in self.scalars if name not in FIXED.names)]
        found: dict[int, Mapping[str, Any]] = {}
        for part, members in wanted.items():
            table = self.run.part(part).select(names)
            chosen = table.filter(pc.is_in(table["index"], value_set=pa.array(list(members), pa.int64())))
            found |= {members[row["index"]]: row for row in chosen.to_pylist()}
        return found
