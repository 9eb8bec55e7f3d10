"""What good and bad samples are told by, and where that was cut. In: a selection, columns. Out: a `Ranking`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from vlmsift.report.columns import Columns, Floats

if TYPE_CHECKING:
    from vlmsift.choosing.selection import Selection

JUDGED = "judged:"  # how the reason of a row begins that a judge dropped
LEFT_OUT = ("random", "answer_tokens")  # numbers that say nothing of good and bad


class Ranking(NamedTuple):
    """A signal that samples are put in order by."""

    name: str
    high: bool  # whether its high end is the good one
    passed: NDArray[np.bool_] | None  # (N,) rows on the good side of the cut; None where nothing was cut by it

    def goodness(self, columns: Columns) -> Floats:
        """(N,) the signal, turned so that more is better; NaN for error rows."""
        values = columns.values(self.name) * (1 if self.high else -1)
        return np.where(columns.ok, values, np.nan)

    def cut(self, columns: Columns) -> tuple[float, float] | None:
        """The worst value that passed, and the best that did not; None where there are not both."""
        if self.passed is None:
            return None
        values = self.goodness(columns)
        known, sign = np.isfinite(values), 1 if self.high else -1
        inside, outside = values[known & self.passed], values[known & ~self.passed]
        return (float(sign * inside.min()), float(sign * outside.max())) if len(inside) and len(outside) else None


def ranking(columns: Columns, selection: Selection | None, kept: NDArray[np.bool_]) -> Ranking | None:
    """By what a selection ranked or judged, else the first signal of the run that has a good end; None without any."""
    made: dict[str, Any] = dict(selection.made_by) if selection is not None else {}
    judge = made.get("first", made)
    if selection is not None and judge.get("by") in columns.scalars:
        if "drop" in judge:  # a judge drops what has the highest values
            reasons = selection.decisions["reason"]
            judged = pc.fill_null(pc.starts_with(reasons, JUDGED), False).to_numpy()
            return Ranking(judge["by"], False, ~np.isin(columns.index, selection.decisions["index"].to_numpy()[judged]))
        ends = {"highest": True, "lowest": False}
        pick = made.get("pick", "")
        return Ranking(judge["by"], ends.get(pick, True), kept if pick in ends else None)
    ends_of = {name: _good_end(columns, name) for name in columns.scalars if name not in LEFT_OUT}
    name = next((name for name, end in ends_of.items() if end), next(iter(ends_of), None))
    return None if name is None else Ranking(name, ends_of[name] != "lowest", None)


def _good_end(columns: Columns, name: str) -> str | None:
    """The end of a signal at which good samples are expected, where it says so."""
    from vlmsift.signals import SIGNALS

    entry = columns.run.settings["identity"]["signals"].get(name, {})
    end: str | None = getattr(SIGNALS.get(entry.get("signal", name)), "good", None)
    return end
