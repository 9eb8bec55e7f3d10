"""Pooled hidden states: what a sample is about, for clustering."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import msgspec
from torch import Tensor
from torch.nn.functional import normalize

from vlmsift.parameters import Parameters
from vlmsift.passes.hidden import PooledHidden
from vlmsift.passes.states import gaussian
from vlmsift.types import Batch, Measured, Need, Signal


@dataclass(frozen=True)
class HiddenMean(Parameters, Signal):
    """Mean hidden state of prompt and image at one depth, (B, min(dimensions, D)) float32, unit norm.

    Wider states are projected by a seeded Gaussian matrix, which keeps distances well enough for k-means and a
    million samples small; ours.

    Attributes:
        depth: fraction of L; 1.0 = after the final norm.
        dimensions: kept dimensions; 0 = all.
    """

    depth: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    dimensions: Annotated[int, msgspec.Meta(ge=0)] = 256
    seed: int = 0

    name: ClassVar[str] = "hidden_mean"
    unit: ClassVar[str] = "unit vector"
    higher_means: ClassVar[str] = "no direction: near vectors are alike samples"

    @property
    def needs(self) -> tuple[Need, ...]:
        return (PooledHidden(self.depth),)

    def width(self, hidden_size: int, layers: int) -> int:
        """Length of the stored vector."""
        return min(self.dimensions, hidden_size) if self.dimensions else hidden_size

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        states: Tensor = measured[PooledHidden(self.depth)]
        if 0 < self.dimensions < states.shape[1]:
            states = states @ gaussian(states.shape[1], self.dimensions, self.seed)
        return normalize(states, dim=1)
