"""Pooled hidden states: what a sample is about, for clustering."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec
from torch import Tensor
from torch.nn.functional import normalize

from vlmsift.parameters import Natural, Parameters
from vlmsift.passes.hidden import PooledHidden
from vlmsift.passes.states import projected
from vlmsift.types import Batch, Measured, Need, Signal


@dataclass(frozen=True)
class HiddenMean(Parameters, Signal):
    """Mean hidden state of prompt and image at one depth, (B, min(dimensions, D)) float32, unit norm.

    Wider states are projected by a seeded Gaussian matrix, which keeps distances well enough for k-means and a
    million samples small; ours.

    Attributes:
        depth: fraction of L; 1.0 = after the final norm.
        dimensions: kept dimensions; 0 = all.
        seed: of the projection.
    """

    depth: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    dimensions: Natural = 256
    seed: int = 0

    name = "hidden_mean"
    unit = "unit vector"
    higher_means = "no direction: near vectors are alike samples"

    @property
    def needs(self) -> tuple[Need, ...]:
        return (PooledHidden(self.depth),)

    def width(self, hidden_size: int, layers: int) -> int:
        return min(self.dimensions, hidden_size) if self.dimensions else hidden_size

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        return normalize(projected(measured[PooledHidden(self.depth)], self.dimensions, self.seed), dim=1)
