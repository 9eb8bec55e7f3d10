"""Nothing but chance: the baseline that every signal has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vlmsift.parameters import Parameters
from vlmsift.passes.masking import sample_generator
from vlmsift.types import Batch, Measured, Signal


@dataclass(frozen=True)
class Random(Parameters, Signal):
    """Uniform in [0, 1), (B,) float32, drawn from the sample's id and the seed, not from its place.

    Attributes:
        seed: another one draws other numbers.
    """

    seed: int = 0

    name = "random"
    unit = "none"
    higher_means = "nothing"
    good = "highest"

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        return torch.stack([torch.rand((), generator=sample_generator(name, self.seed)) for name in batch.ids])
