"""Hidden states pooled to one vector per sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vlmsift.types import Batch


@dataclass(frozen=True, slots=True)
class PooledHidden:
    """Mean of the states entering a layer, over all positions but padding and answers: (B, D) float32.

    Attributes:
        depth: fraction of L; 1.0 = after the final norm.
    """

    depth: float = 0.5

    def layer(self, depth: int) -> int | None:
        """Index of the layer whose input is pooled; None = the final states."""
        return None if self.depth >= 1 else int(self.depth * depth)


def pooled(batch: Batch, states: Tensor) -> Tensor:
    """(B, T, D) -> (B, D): mean over prompt and image positions, in float32."""
    inside = batch.valid & (batch.labels == -100)
    weight = inside.float() / inside.sum(1, keepdim=True).clamp(min=1)
    return torch.stack([row_weight @ row for row_weight, row in zip(weight, states.float(), strict=True)])
