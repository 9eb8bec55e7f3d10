"""What the attention rows say: how much each token receives, and how an answer looks at the image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
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
        self.layer = -1
        self.open: list[tuple[Tensor, Tensor]] = []  # this layer's chunks: (B, T') sums, and how many rows see each key
        self.visible, self.weight, self.count = torch.empty(0), torch.empty(0), torch.empty(0)  # of the last chunk

    def see(self, layer: int, seen: Seen) -> None:
        if layer != self.layer:
            self._close_layer()
            self.layer = layer
        probabilities = seen.probabilities if self.heads == "mean" else seen.probabilities.amax(1, keepdim=True)
        batch, heads, rows, reach = probabilities.shape  # heads: H, or 1 of the maximum
        if seen.visible is not self.visible:
            chosen = seen.rows.chosen  # (B, R)
            self.visible, self.count = seen.visible, (seen.visible & chosen[:, :, None]).sum(1)  # (B, R, T'), (B, T')
            self.weight = (chosen.float() / heads)[:, None, None, :].expand(-1, heads, -1, -1).reshape(batch, 1, -1)
        flat = probabilities.view(batch, heads * rows, reach)  # (B, H * R, T')
        # one matrix product sums heads and rows
        self.open.append((torch.bmm(self.weight, flat).squeeze(1), self.count))

    def _close_layer(self) -> None:
        """Add what this layer's tokens received to the total, (B, T)."""
        if not self.open:
            return
        received, count = self.open[0]
        if len(self.open) > 1:  # later chunks reach further
            received, count = (self._whole([chunk[number] for chunk in self.open]) for number in (0, 1))
        self.total[:, : received.shape[1]] += received / count.clamp(min=1)
        self.open.clear()

    def _whole(self, parts: list[Tensor]) -> Tensor:
        """(B, T), the sum of (B, T') each."""
        whole = torch.zeros_like(self.total)
        for part in parts:
            whole[:, : part.shape[1]] += part
        return whole

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
        self.image = batch.image_mask[:, None]  # (B, 1, T)
        self.patches = batch.image_mask.sum(1).float()  # (B,)
        self.found: list[tuple[Tensor, Tensor, Tensor]] = []  # of each chunk (B, R) mass, -entropy in nats, chosen

    def see(self, layer: int, seen: Seen) -> None:
        on_image = seen.mean * self.image[..., : seen.probabilities.shape[-1]]  # (B, R, T')
        mass = on_image.sum(-1)  # (B, R)
        share = on_image / mass.clamp(min=1e-12)[..., None]  # (B, R, T'), sums to 1
        self.found.append((mass, (share * share.clamp(min=1e-12).log()).sum(-1), seen.rows.chosen))

    def result(self) -> Tensor:
        total = torch.zeros((2, len(self.patches), 2), dtype=torch.float32, device=self.patches.device)
        # a layer's chunks are of different rows; what is of the same rows in all layers is reduced at once
        for _, chunks in groupby(self.found, key=lambda chunk: id(chunk[2])):
            total = self._add(total, list(chunks))
        mean = total[0] / total[1]  # (B, 2); 0 / 0 is NaN
        return mean.masked_fill((self.patches == 0)[:, None], math.nan)

    def _add(self, total: Tensor, chunks: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
        """(2, B, 2) [sum, count] x [mass, entropy], with what these chunks (of k layers) have more."""
        chosen = chunks[0][2]  # (B, R)
        mass = torch.stack([mass for mass, _, _ in chunks])  # (k, B, R)
        spread = self.patches.clamp(min=2).log()[:, None]  # (B, 1); one patch has entropy 0, whatever divides it
        entropy = -torch.stack([negative for _, negative, _ in chunks]) / spread  # (k, B, R)
        looking = chosen & (mass > 0)  # (k, B, R)
        sums = torch.stack([(mass * chosen).sum(2), (entropy * looking).sum(2)], 2)  # (k, B, 2)
        counts = torch.stack([chosen.sum(1).expand(len(mass), -1), looking.sum(2)], 2)  # (k, B, 2)
        for layer in torch.stack([sums, counts.float()], 1):  # (2, B, 2), in the order of the layers
            total = total + layer
        return total
