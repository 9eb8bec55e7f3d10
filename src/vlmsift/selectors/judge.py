"""Drop the share that looks worst, but no group whole; from what stays another selector may choose."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from vlmsift.choosing.candidates import Candidates, Choice, Selector, Verdict
from vlmsift.choosing.groups import Balance, group
from vlmsift.choosing.quota import ranks_within, split
from vlmsift.choosing.words import coded, either, joined, shown
from vlmsift.parameters import Count

Part = Annotated[float, msgspec.Meta(ge=0, le=1)]
Below = Annotated[float, msgspec.Meta(ge=0, lt=1)]
SIZEABLE = 20  # rows of a group that is never dropped whole


@dataclass(frozen=True)
class Judge(Selector):
    """Drops the rows of least c = rank of `by` over all + `weight` x rank of `also` within the row's group.

    Ranks are shares, 0 worst, 1 best; `by` is good where it is low, `also` where it is high, and counts as middling
    where it is undefined. First each group keeps its best by c, `guard` times its proportional part; the others that
    stay are the best by c over all. With a budget, as many of those that stay are drawn at random. Source: ours.

    Attributes:
        drop: the share to drop. "auto": what the run's plants told, at most `most`; `unknown` where nobody has asked or
            it cannot be told. Never so much that the budget is not left; where the budget is half of all or more, at
            most 1 - its square root, so that a choice is left.
        by: a scalar signal, good where it is low.
        also: another one, good where it is high.
        weight: of `also` beside `by`; 0 leaves it out.
        balance, min_group, vector, clusters: the groups, as of `top`.
        guard: 0 would let a whole task be dropped that the model does not know.
        most: the largest share that plants can have dropped.
        unknown: the share that is dropped where plants tell nothing.
    """

    drop: Literal["auto"] | Below = "auto"
    by: str = "surprise"
    also: str = "delta_attnmask"
    weight: Part = 0.5
    balance: Balance = "auto"
    min_group: Count = 10
    vector: str = "hidden_mean"
    clusters: Count | None = None
    guard: Part = 0.5
    most: Below = 0.6
    unknown: Below = 0.5
    name: ClassVar[str] = "judge"

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.by,)

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([self.by, *([self.also] if self.weight else [])]))

    @property
    def asks_share(self) -> bool:
        return self.drop == "auto"

    def unasked(self) -> Judge:
        return replace(self, drop=self.unknown) if self.drop == "auto" else self

    def check_clean(self) -> None:
        """It judges."""

    def survivors(self, candidates: Candidates) -> int:
        return len(self.judge(candidates, None).left)

    def __call__(self, candidates: Candidates, budget: int) -> Choice:
        verdict = self.judge(candidates, budget)
        reasons = either(verdict.stays(len(candidates)), "good enough, but not drawn", verdict.reasons)
        return Choice(verdict.left[:budget], verdict.groups, reasons, verdict.details)

    def judge(self, candidates: Candidates, budget: int | None) -> Verdict:
        count = len(candidates)
        share, why = self._share(candidates.spoiled, count, budget)
        groups = group(candidates, self.balance, min_group=self.min_group, vector=self.vector, clusters=self.clusters)
        criterion = self._criterion(candidates, groups.codes)  # (N,)
        stay = count - _whole(share, count)
        left = _guarded(criterion, groups.codes, stay, self.guard)  # (N,)
        place = ranks_within(-criterion, np.zeros(count, np.int64)) + 1  # (N,), 1 is the best
        columns: list[Any] = []
        for name in self.reads:
            columns += ["; " + name + " = ", shown(candidates.number(name), 4, exact=True)]
        rank = f" of {count}, {stay} stay"
        reasons = joined("judged: c = ", shown(criterion, 4), ", rank ", shown(place), rank, *columns)
        labels = coded(groups.codes, groups.names)
        sizes, kept = np.bincount(groups.codes), np.bincount(groups.codes[left], minlength=len(groups.names))
        details = {
            **groups.details,
            "groups": len(groups.names),
            "judged_share": round(share, 4),
            "judged_by": why,
            "judged_out": count - stay,
            "least_kept_of_a_group": round(float(np.min((kept / sizes)[sizes >= SIZEABLE], initial=1.0)), 4),
        }
        return Verdict(np.flatnonzero(left), labels, reasons, details)

    def _share(self, spoiled: float | None, count: int, budget: int | None) -> tuple[float, str]:
        """The share to drop, and in words where it comes from."""
        if self.drop == "auto":
            wanted = self.unknown if spoiled is None else spoiled
            why = f"{wanted:g}, as no plants told" if spoiled is None else f"plants told at most {spoiled:.2f}"
            if wanted > self.most:
                wanted, why = self.most, f"{why}; most={self.most}"
        else:
            wanted, why = float(self.drop), f"drop={self.drop}"
        every = count - _whole(wanted, count)  # a budget of all that stay is one of keep="clean"
        if budget is not None and budget != every:
            part = budget / count
            room = 1 - part if part < 0.5 else 1 - part**0.5
            if wanted > room:
                wanted, why = room, f"{why}; the budget leaves no more"
        return wanted, why

    def _criterion(self, candidates: Candidates, codes: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """(N,), 0 to 1 + weight; the higher the better."""
        everyone = np.zeros(len(candidates), np.int64)
        value = _rank_share(-candidates.number(self.by), everyone)
        if not self.weight:
            return value
        other = candidates.number(self.also)
        known, second = np.isfinite(other), np.full(len(candidates), 0.5)
        second[known] = _rank_share(other[known], codes[known])
        return value + self.weight * second


def _whole(share: float, count: int) -> int:
    """A share of rows in rows, rounded down; 0.2 of 100 is 20 whatever binary makes of 0.2."""
    return int(share * count + 1e-9)


def _rank_share(values: NDArray[np.floating[Any]], codes: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """(N,) middle of each row's place among its group's, ascending, as a share of it; equal values share a place."""
    order = np.lexsort((values, codes))
    keys, sorted_values = codes[order], values[order]
    fresh = np.append(True, (keys[1:] != keys[:-1]) | (sorted_values[1:] != sorted_values[:-1]))  # (N,)
    run = np.cumsum(fresh) - 1  # which stretch of equal values
    first, last = np.flatnonzero(fresh), np.append(np.flatnonzero(fresh)[1:], len(values))
    middles = (first + last) / 2  # places from 0, ends counted half
    sizes = np.bincount(codes)
    starts = np.concatenate([[0], np.cumsum(sizes)])[:-1]
    found = np.empty(len(values))
    found[order] = (middles[run] - starts[keys]) / sizes[keys]
    return found


def _guarded(
    criterion: NDArray[np.float64], codes: NDArray[np.integer[Any]], stay: int, guard: float
) -> NDArray[np.bool_]:
    """(N,) True for the `stay` rows that stay: each group's best up to its guarded part, then the best of all."""
    sizes = np.bincount(codes)  # (G,)
    first = split(int(guard * stay), sizes, sizes)
    lacking = (sizes >= SIZEABLE) & (first == 0)
    if guard and lacking.sum() + first.sum() <= stay:
        first = first + lacking
    ranks = ranks_within(-criterion, codes)  # (N,)
    safe = ranks < first[codes]
    order = ranks_within(np.where(safe, -np.inf, -criterion), np.zeros_like(codes))
    return np.asarray(order < stay)
