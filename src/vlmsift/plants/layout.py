"""The run of a planted pool as arrays. In: the run and the pool it was made of. Out: what each row is, its values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlmsift.errors import UsageError
from vlmsift.plants.kinds import NO_TWIN, PLANTS
from vlmsift.plants.planted import SMALLEST, Planted
from vlmsift.runs.run import Run

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """What the N rows of a planted pool's run are."""

    of: Ints  # (N,) place of each row's original among the originals
    originals: NDArray[np.bool_]  # (N,) usable originals
    pictured: NDArray[np.bool_]  # (N,) rows with an image
    twins: Mapping[str, NDArray[np.bool_]]  # kind -> (N,) its usable twins; none is empty
    by_image: frozenset[str]  # kinds made by way of an image: held against originals with images

    @property
    def usable(self) -> NDArray[np.bool_]:
        """(N,) bool: originals and twins that could be measured."""
        return np.asarray(np.logical_or.reduce([self.originals, *self.twins.values()]))

    def good(self, kind: str) -> NDArray[np.bool_]:
        """(N,) bool: the originals that twins of this kind are held against."""
        return self.originals & self.pictured if kind in self.by_image else self.originals


def read_layout(run: Run, planted: Planted) -> tuple[Layout, list[str]]:
    """What the run's rows are, and sentences on what is missing. A twin whose original failed is not used.

    Raises:
        UsageError: fewer than 20 originals, or no twin at all, could be measured.
    """
    table = run.table(["status", "reason", "images"])
    measured = table["status"].to_numpy(zero_copy_only=False) == "ok"  # (N,)
    reasons = np.array(table["reason"].to_pylist(), dtype=object)  # (N,)
    of = np.array([entry.of for entry in planted.entries], np.int64)  # (N,)
    kinds = np.array([entry.kind or "" for entry in planted.entries])
    originals = measured & (kinds == "")
    usable = measured & originals[of]  # the originals come first, so a place among them is a row
    said = list(planted.left_out)
    if len(failed := reasons[(kinds == "") & ~measured]):
        total = (kinds == "").sum()
        said.append(f"{len(failed)} of {total} originals could not be measured (one of them: {failed[0]}).")
    if originals.sum() < SMALLEST:
        raise UsageError(
            f"only {originals.sum()} originals could be measured, at least {SMALLEST} are needed: {said[-1]}"
        )
    twins = {}
    for kind in planted.counts():
        rows = usable & (kinds == kind)
        if lost := Counter(map(str, reasons[(kinds == kind) & ~measured])):
            reason, count = lost.most_common(1)[0]
            text = reason.removeprefix(f"{NO_TWIN}: ")
            said.append(f"{kind}: {lost.total()} of {(kinds == kind).sum()} twins are missing ({count} x {text}).")
        if rows.any():
            twins[kind] = rows
    if not twins:
        raise UsageError(f"no planted sample could be measured: {' '.join(said)}")
    by_image = frozenset(kind for kind in twins if PLANTS[kind].images)
    return Layout(of, originals, table["images"].to_numpy() > 0, twins, by_image), said


def read_values(run: Run, columns: Sequence[str]) -> dict[str, Floats]:
    """Column -> (N,) float64 of the run; NaN where undefined."""
    table = run.table(list(dict.fromkeys(columns)))
    return {name: np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64) for name in table.column_names}


def resamples(count: int, number: int, seed: int) -> Floats:
    """(1 + number, count) float32: how often each of `count` originals is drawn; the first row is the sample itself."""
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(count, np.full(count, 1 / count), size=number)  # (number, count)
    return np.vstack([np.ones((1, count)), draws]).astype(np.float32)
