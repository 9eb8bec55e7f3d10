"""One selector judges, another chooses from what stays: "judge:drop=0.3 then facility_location"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from vlmsift.choosing.candidates import Candidates, Choice, Selector
from vlmsift.choosing.words import either, joined, moved


@dataclass(frozen=True)
class Then(Selector):
    """`first.judge` drops rows, `second` chooses the budget among the others. A reason begins with who dropped a row.

    Attributes:
        first: a selector that judges (`judge`).
        second: any selector.
    """

    first: Selector
    second: Selector

    def __post_init__(self) -> None:
        self.first.check_judge()

    @property
    def name(self) -> str:  # type: ignore[override]
        """Both names, as in its word."""
        return f"{self.first.name} then {self.second.name}"

    @property
    def takes_text(self) -> bool:
        return self.first.takes_text and self.second.takes_text

    @property
    def partly_defined(self) -> bool:  # type: ignore[override]
        return self.first.partly_defined and self.second.partly_defined

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.first.columns, *self.second.columns]))

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.first.reads, *self.second.reads]))

    @property
    def asks_share(self) -> bool:
        return self.first.asks_share or self.second.asks_share

    def unasked(self) -> Then:
        return replace(self, first=self.first.unasked(), second=self.second.unasked())

    def with_columns(self, names: Mapping[str, str]) -> Then:
        return replace(self, first=self.first.with_columns(names), second=self.second.with_columns(names))

    def check_clean(self) -> None:
        self.first.check_clean()

    def survivors(self, candidates: Candidates) -> int:
        return self.first.survivors(candidates)

    def __call__(self, candidates: Candidates, budget: int) -> Choice:
        verdict = self.first.judge(candidates, budget)
        left = verdict.left  # (n,)
        chosen = self.second(candidates.take(left, candidates.stratum), budget)
        place = np.full(len(candidates), -1)  # among those that stay
        place[left] = np.arange(len(left))
        stays = place >= 0
        after = joined(f"{self.second.name}: ", moved(chosen.reasons, np.maximum(place, 0)))
        reasons = either(stays, after, verdict.reasons)
        groups = either(stays, moved(chosen.groups, np.maximum(place, 0)), verdict.groups)
        return Choice(left[chosen.kept], groups, reasons, {**chosen.details, **verdict.details})
