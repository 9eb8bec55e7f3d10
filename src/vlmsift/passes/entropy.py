"""Layer by layer, how widely the first step of an answer looks over the image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vlmsift.passes.attention import Observer, Seen
from vlmsift.passes.needs import Observe
from vlmsift.types import Batch


@dataclass(frozen=True, slots=True)
class EntropyProfile(Observe):
    """Entropy of the first decoding row's attention over the image tokens, per layer: (B, L) float32.

    The row predicts the first token of the first answer after the sample's first image. Its attention is averaged over
    heads, then renormalised over the image tokens, of all images before it together. NaN for samples without such a
    row, and for layers in which it sees no image token (outside a sliding window).
    """

    normalise: bool = False  # divide the nats by the log of the image tokens that the row can see, 0 .. 1

    def rows(self, batch: Batch) -> Tensor:
        answering = batch.query_mask & (batch.image_mask.cumsum(1) > 0)  # (B, T): those after the image begins
        return answering & (answering.cumsum(1) == 1)

    def observer(self, batch: Batch, depth: int) -> Observer:
        return _Profile(batch.image_mask, depth, self.normalise)


class _Profile:
    def __init__(self, image: Tensor, depth: int, normalise: bool) -> None:
        self.layers = frozenset(range(depth))
        self.image, self.normalise = image, normalise
        self.entropy = torch.full((len(image), depth), math.nan, device=image.device)  # (B, L)

    def see(self, layer: int, seen: Seen) -> None:
        image = self.image[:, None, : seen.probabilities.shape[-1]]  # (B, 1, T')
        on_image = (seen.mean * image)[:, 0]  # one row per sample: (B, T')
        share = on_image / on_image.sum(1, keepdim=True)  # 0 / 0 is NaN, and so is its entropy
        entropy = torch.special.entr(share).sum(1)  # (B,) nats
        if self.normalise:
            entropy /= (seen.visible & image)[:, 0].sum(1).clamp(min=2).log()
        self.entropy[:, layer] = entropy.masked_fill(~seen.rows.chosen[:, 0], math.nan)

    def result(self) -> Tensor:
        return self.entropy
