"""What the attention rows say: how much each token receives, and how an answer looks at the image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vlmsift.passes.attention import Observer, Seen
from vlmsift.passes.needs import Observe
from vlmsift.types import Batch

RowsName = Literal["answer", "all", "last"]
HeadsName = Literal["mean", "max"]
LayersName = Literal["all", "below", "above"]


def rows_mask(name: RowsName, batch: Batch) -> Tensor:
    """(B, T) bool: "answer" = positions that predict a supervised token, "last" = the last of those, "all" = all.

    Padding is none of them.
    """
    if name == "last":
        return batch.query_mask & (batch.query_mask.cumsum(1) == batch.query_mask.sum(1, keepdim=True))
    return batch.query_mask if name == "answer" else batch.valid


@dataclass(frozen=True, slots=True)
class AttentionReceived(Observe):
    """Attention received per token: (B, T) float32, mean over layers, heads and the rows that can see the token.

    Dividing by the rows that can see a token, not by all, takes out the causal advantage of early tokens (ours;
    ACT, ICML 2024, divides columns alike). A token that no row sees gets 0.
    """

    row_name: RowsName = "answer"
    start: int = 0  # layers [start, stop) enter the mean
    stop: int | None = None  # None = the last
    heads: HeadsName = "mean"  # "max" = of each row and token, the head that attends most stands for all

    def rows(self, batch: Batch) -> Tensor:
        return rows_mask(self.row_name, batch)

    def observer(self, batch: Batch, depth: int) -> Observer:
        layers = frozenset(range(self.start, depth if self.stop is None else self.stop))
        return _Received(batch, layers, self.heads)


class _Received:
    def __init__(self, batch: Batch, layers: frozenset[int], heads: HeadsName) -> None:
        self.layers, self.heads = layers, heads
        self.total = torch.zeros(batch.valid.shape, dtype=torch.float32, device=batch.valid.device)  # (B, T)
        self.layer_sum = torch.zeros_like(self.total)
        self.count = torch.zeros_like(self.total)
        self.layer = -1

    def see(self, layer: int, seen: Seen) -> None:
        if layer != self.layer:
            self._close_layer()
            self.layer = layer
        probabilities = seen.probabilities if self.heads == "mean" else seen.probabilities.amax(1, keepdim=True)
        batch, heads, rows, reach = probabilities.shape  # heads: H, or 1 of the maximum
        weight = (seen.rows.chosen.float() / heads)[:, None, None, :].expand(-1, heads, -1, -1).reshape(batch, 1, -1)
        flat = probabilities.view(batch, heads * rows, reach)  # (B, H * R, T')
        self.layer_sum[:, :reach] += (weight @ flat)[:, 0]  # one matrix product sums heads and rows
        self.count[:, :reach] += (seen.visible & seen.rows.chosen[:, :, None]).sum(1)

    def _close_layer(self) -> None:
        self.total += self.layer_sum / self.count.clamp(min=1)
        self.layer_sum.zero_()
        self.count.zero_()

    def result(self) -> Tensor:
        self._close_layer()
        return self.total / max(1, len(self.layers))


@dataclass(frozen=True, slots=True)
class ImageAttention(Observe):
    """How answer rows look at the image: (B, 2) float32 [mass, entropy], means over rows and layers; NaN without one.

    mass: share of a row's attention, averaged over heads, that falls on image tokens, 0..1. entropy: of that attention
    renormalised over the image, divided by the log of the image's token count, 0 (one patch) .. 1 (evenly spread)
    (after BYE, arXiv 2505.16916, and MAGIC). Rows that see no image token (it comes later, or lies outside a sliding
    window) have a mass of 0 and no entropy.
    """

    def rows(self, batch: Batch) -> Tensor:
        return rows_mask("answer", batch)

    def observer(self, batch: Batch, depth: int) -> Observer:
        return _OnImage(batch, frozenset(range(depth)))


class _OnImage:
    def __init__(self, batch: Batch, layers: frozenset[int]) -> None:
        self.layers = layers
        self.image = batch.image_mask
        self.patches = batch.image_mask.sum(1).float()  # (B,)
        self.sum = torch.zeros((len(batch), 2), dtype=torch.float32, device=self.image.device)  # [mass, entropy]
        self.count = torch.zeros_like(self.sum)

    def see(self, layer: int, seen: Seen) -> None:
        reach = seen.probabilities.shape[-1]
        on_image = seen.probabilities.mean(1) * self.image[:, None, :reach]  # (B, R, T')
        mass = on_image.sum(-1)  # (B, R)
        share = on_image / mass.clamp(min=1e-12)[..., None]  # (B, R, T'), sums to 1
        spread = self.patches.clamp(min=2).log()[:, None]  # (B, 1); one patch has entropy 0, whatever divides it
        entropy = -(share * share.clamp(min=1e-12).log()).sum(-1) / spread  # (B, R)
        chosen = seen.rows.chosen
        looking = chosen & (mass > 0)  # (B, R)
        self.sum += torch.stack([(mass * chosen).sum(1), (entropy * looking).sum(1)], 1)
        self.count += torch.stack([chosen.sum(1), looking.sum(1)], 1)

    def result(self) -> Tensor:
        mean = self.sum / self.count  # 0 / 0 is NaN
        return mean.masked_fill((self.patches == 0)[:, None], math.nan)
