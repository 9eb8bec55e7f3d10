"""Rank by one signal, within groups that keep their share: the selector of Delta-AttnMask, losses and lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from vlmsift.choosing.candidates import Candidates, Cause, Choice, Selector
from vlmsift.choosing.groups import Balance, group
from vlmsift.choosing.quota import best_of_groups, ranks_within, split
from vlmsift.choosing.words import either, joined, shown
from vlmsift.errors import UsageError
from vlmsift.parameters import Count

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Top(Selector):
    """Each group keeps its share of the budget: the rows of highest, lowest or middle value, or random ones of a band.

    Attributes:
        by: the signal to rank by.
        pick: "highest"; "lowest"; "middle", the window around the group's median; "band", a random draw among the rows
            with `low` <= value <= `high`.
        balance: the groups: "auto", "answer", "source", "clusters" or "none" (see `groups.group`).
        low, high: ends of the band: a value, or a quantile of the ranked rows such as "30%"; None is open.
        clusters: how many, for `balance="clusters"`; None is sqrt(N / 2), at most 1,000.
        vector: the vector signal to cluster.
        min_group: an answer of its own group occurs at least so often in its source.
        ceiling: with "highest" only: values above it mislead (an IFD above 1), so they come after all others of their
            group, the nearest first; a budget may still need them.
    """

    by: str = "delta_attnmask"
    pick: Literal["highest", "lowest", "middle", "band"] = "highest"
    balance: Balance = "auto"
    low: float | str | None = None
    high: float | str | None = None
    clusters: Count | None = None
    vector: str = "hidden_mean"
    min_group: Count = 10
    ceiling: float | None = None
    name: ClassVar[str] = "top"

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.pick == "band") != ((self.low, self.high) != (None, None)):
            ends = f"low={self.low!r} and high={self.high!r}"
            raise UsageError(f"{ends} with pick={self.pick!r}: give at least one with pick='band', none otherwise.")
        if self.ceiling is not None and (self.pick != "highest" or np.isnan(self.ceiling)):
            cure = "Give a number with pick='highest', or none."
            raise UsageError(f"ceiling={self.ceiling!r} with pick={self.pick!r} cannot be meant. {cure}")

    def screen(self, candidates: Candidates) -> list[Cause]:
        if self.pick != "band":
            return []
        values = candidates.number(self.by)
        low, high = _bound("low", self.low, values, -np.inf), _bound("high", self.high, values, np.inf)
        if low > high:
            raise UsageError(f"the band is empty: low={self.low!r} is {low:.6g}, above high={self.high!r}, {high:.6g}.")
        band = f"outside the band {low:.6g} to {high:.6g}"
        reasons = joined(f"{self.by} = ", shown(values), f" is {band}")
        return [Cause(f"{self.by} is {band}", (values < low) | (values > high), reasons)]

    def __call__(self, candidates: Candidates, budget: int) -> Choice:
        groups = group(candidates, self.balance, min_group=self.min_group, vector=self.vector, clusters=self.clusters)
        sizes = np.bincount(groups.codes)  # (G,)
        badness = self._badness(candidates.number(self.by), groups.codes, sizes)
        choice = best_of_groups(badness, groups, split(budget, sizes, sizes))
        if self.ceiling is None:
            return choice
        values = candidates.number(self.by)
        above = values > self.ceiling  # (N,)
        over = joined(f"{self.by} = ", shown(values), f" is above {self.ceiling:.6g}: ")
        reasons = joined(either(above, over, ""), choice.reasons)
        kept_above = int(np.sum(above[choice.kept]))
        details = {**choice.details, "above_ceiling": int(above.sum()), "kept_above_ceiling": kept_above}
        return choice._replace(reasons=reasons, details=details)

    def _badness(self, values: Floats, codes: NDArray[np.integer[Any]], sizes: NDArray[np.int64]) -> Floats:
        """(N,) what to keep the least of."""
        if self.pick == "lowest":
            return values
        if self.pick == "highest":
            return -values if self.ceiling is None else _below_first(values, self.ceiling)
        if self.pick == "band":
            return np.zeros_like(values)
        # middle: distance of the rank from its group's middle, as a share of the group, so that groups compare
        off_centre: Floats = np.abs(2 * ranks_within(values, codes) - (sizes[codes] - 1)) / sizes[codes]
        return off_centre


def _below_first(values: Floats, ceiling: float) -> Floats:
    """(N,) places among the distinct values (N,): from the ceiling down, then from it up. Equal values tie."""
    distinct, place = np.unique(values, return_inverse=True)
    below = int(np.sum(distinct <= ceiling))
    return np.where(place < below, below - 1 - place, place).astype(np.float64)


def _bound(word: str, end: float | str | None, values: Floats, default: float) -> float:
    """An end of the band as a value."""
    if end is None:
        return default
    try:
        if isinstance(end, str) and end.strip().endswith("%"):
            return float(np.quantile(values, float(end.strip()[:-1]) / 100)) if len(values) else default
        number = float(end)
    except ValueError:
        number = np.nan
    if np.isnan(number):
        raise UsageError(f"{word}={end!r} is no end of a band. Give a value, or a quantile from '0%' to '100%'.")
    return number
