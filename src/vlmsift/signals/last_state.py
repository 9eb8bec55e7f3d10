"""Where a sample ends up in the model: its last hidden state."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import normalize

from vlmsift.parameters import Natural, Parameters
from vlmsift.passes.states import LastState as Last
from vlmsift.passes.states import projected
from vlmsift.types import Batch, Measured, Signal


@dataclass(frozen=True)
class LastState(Parameters, Signal):
    """State after the final norm at the last position of the sample, (B, min(dimensions, D)) float32, unit norm.

    Source: SemDeDup (arXiv 2303.09540) as COINCIDE's authors run it for VLMs. Their script reads the last position of
    the padded batch, which is padding for all but the longest sample, and does not normalise; here it is the sample's
    own.

    Attributes:
        dimensions: kept dimensions of a seeded Gaussian projection (ours); 0 = all.
        seed: of the projection.
    """

    dimensions: Natural = 0
    seed: int = 0

    name = "last_state"
    unit = "unit vector"
    higher_means = "no direction: near vectors are alike samples, very near ones duplicates"
    needs = (Last(),)

    def width(self, hidden_size: int, layers: int) -> int:
        return min(self.dimensions, hidden_size) if self.dimensions else hidden_size

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        return normalize(projected(measured[Last()], self.dimensions, self.seed), dim=1)
