"""Pooled hidden states: what a sample is about, for clustering."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import normalize

from vlmsift.errors import UsageError
from vlmsift.passes.hidden import PooledHidden
from vlmsift.passes.states import gaussian
from vlmsift.types import Batch, Measured


@dataclass(frozen=True)
class HiddenMean:
    """Mean hidden state of prompt and image at one depth, (B, min(dimensions, D)) float32, unit norm.

    Wider states are projected by a seeded Gaussian matrix, which keeps distances well enough for k-means and a
    million samples small; ours.

    Attributes:
        depth: fraction of L; 1.0 = after the final norm.
        dimensions: kept dimensions; 0 = all.
    """

    depth: float = 0.5
    dimensions: int = 256
    seed: int = 0

    name: ClassVar[str] = "hidden_mean"
    unit: ClassVar[str] = "unit vector"
    higher_means: ClassVar[str] = "no direction: near vectors are alike samples"

    def __post_init__(self) -> None:
        if not 0 <= self.depth <= 1:
            raise UsageError(f"hidden_mean: depth={self.depth} is not a fraction of the layers; give 0.0 to 1.0")
        if self.dimensions < 0:
            raise UsageError(f"hidden_mean: dimensions={self.dimensions} is below 0; give 0 to keep all, or e.g. 256")

    @property
    def needs(self) -> tuple[object, ...]:
        return (PooledHidden(self.depth),)

    def width(self, hidden_size: int, layers: int = 0) -> int:
        """Length of the stored vector."""
        return min(self.dimensions, hidden_size) if self.dimensions else hidden_size

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        states: Tensor = measured[PooledHidden(self.depth)]
        if 0 < self.dimensions < states.shape[1]:
            states = states @ gaussian(states.shape[1], self.dimensions, self.seed)
        return normalize(states, dim=1)
