"""A uniform draw: the baseline of every comparison, and the rule for text-only samples without a signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vlmsift.choosing.candidates import Candidates, Choice, Selector
from vlmsift.choosing.groups import one_group
from vlmsift.choosing.quota import best_of_groups


@dataclass(frozen=True)
class Random(Selector):
    """The first candidates: they come in a seeded random order. A smaller budget draws a part of a larger one."""

    name: ClassVar[str] = "random"

    def check_clean(self) -> None:
        """Nothing is wrong with it."""

    def survivors(self, candidates: Candidates) -> int:
        """All: chance has nothing to say against anybody."""
        return len(candidates)

    def __call__(self, candidates: Candidates, budget: int) -> Choice:
        return best_of_groups(np.zeros(len(candidates)), one_group(candidates), np.array([budget]))
