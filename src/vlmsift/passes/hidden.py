"""Hidden states pooled to one vector per sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlmsift.models import Adapter
from vlmsift.passes.needs import Watch, Watcher
from vlmsift.types import Batch


@dataclass(frozen=True, slots=True)
class PooledHidden(Watch):
    """Mean of the states entering a layer, over all positions but padding and answers: (B, D) float32."""

    depth: float = 0.5  # fraction of L; 1.0 = after the final norm

    def watcher(self, adapter: Adapter, batch: Batch) -> Watcher:
        return _Pooled(self.depth, adapter, batch)


class _Pooled(Watcher):
    def __init__(self, depth: float, adapter: Adapter, batch: Batch) -> None:
        self.entering = depth < 1
        self.modules: dict[str, nn.Module] = {
            "layer": adapter.layers[int(depth * adapter.depth)] if self.entering else adapter.norm
        }
        self.batch, self.mean = batch, torch.empty(0)

    def take(self, key: str, output: Tensor) -> None:
        self.mean = pooled(self.batch, output.to(self.batch.valid.device))

    def result(self) -> Tensor:
        return self.mean


def pooled(batch: Batch, states: Tensor) -> Tensor:
    """(B, T, D) -> (B, D): mean over prompt and image positions, in float32."""
    inside = batch.valid & (batch.labels == -100)  # (B, T)
    weight = inside.float() / inside.sum(1, keepdim=True).clamp(min=1)  # (B, T), each sample's sums to 1
    return torch.bmm(weight[:, None], states.float())[:, 0]
