"""What an augmentation is, and the randomness that it may use.

In: the batch of a training forward, who takes part, and, where asked for, the attention that each token receives. Out:
an `Intervention`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vlmsift.passes.attention_received import AttentionReceived
from vlmsift.passes.intervene import Intervention
from vlmsift.passes.masking import sample_generator
from vlmsift.types import Batch


@dataclass(frozen=True, slots=True)
class Shape:
    """The text decoder's size: L layers of H heads."""

    layers: int
    heads: int


class Variant(ABC):
    """A kind of augmentation: a small frozen dataclass, one file and one line in `VARIANTS`."""

    source: ClassVar[str]  # the paper, or "ours"
    changes_attention: bool = False  # whether `intervene` may ask for other visible keys or silent heads
    probability: ClassVar[float] = 1.0  # chance of a sample to be augmented in a forward, unless another is asked for
    asks_special: bool = False  # whether `intervene` asks which tokens are special

    def ranking(self, depth: int) -> AttentionReceived | None:
        """The attention that it ranks tokens by, of a model with L = `depth` layers; None where it needs none."""
        return None

    @abstractmethod
    def intervene(self, batch: Batch, taking_part: Tensor, received: Tensor | None, shape: Shape) -> Intervention:
        """The change of one forward of the samples `taking_part`, (B,) bool; `ranking` asked for `received`, (B, T)."""


def uniform(batch: Batch, seed: int, *size: int) -> Tensor:
    """(B, *size) float32 in [0, 1): each sample's own draws, by `Batch.ids` and the seed, on the batch's device."""
    drawn = [torch.rand(size, generator=sample_generator(name, seed)) for name in batch.ids]
    return torch.stack(drawn).to(batch.valid.device)
