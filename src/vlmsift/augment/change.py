"""What an augmentation does to one forward, and the randomness that it may use.

In: the batch of a training forward, who takes part, and, where asked for, the attention that each token receives. Out:
a `Change`: hidden states at one layer, keys that rows may see, or heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vlmsift.passes.attention_received import AttentionReceived
from vlmsift.passes.masking import sample_generator
from vlmsift.types import Batch


@dataclass(frozen=True, slots=True)
class Change:
    """One forward's augmentation. Samples that do not take part are left alone by each of its functions.

    Attributes:
        layer: the layer whose input `states` changes.
        states: (B, T, D) -> (B, T, D), differentiable; None where hidden states are not touched.
        visible: (layer, (B, T, T) bool) -> (B, T, T) bool, the keys that each row may see; None where attention is not
            touched. A row must keep a key.
        silent_heads: (L, B, H) bool, heads whose output becomes zero; None where heads are not touched.
        chosen: (B, T) bool, the tokens that were chosen; for a look from outside.
    """

    layer: int = 0
    states: Callable[[Tensor], Tensor] | None = None
    visible: Callable[[int, Tensor], Tensor] | None = None
    silent_heads: Tensor | None = None
    chosen: Tensor | None = None

    @property
    def of_attention(self) -> bool:
        """Whether attention itself is changed."""
        return self.visible is not None or self.silent_heads is not None


@dataclass(frozen=True, slots=True)
class Shape:
    """The text decoder's size: L layers of H heads."""

    layers: int
    heads: int


class Variant(Protocol):
    """A kind of augmentation: a small frozen dataclass, one file and one line in `VARIANTS`."""

    @property
    def source(self) -> str:
        """The paper, or "ours"."""

    @property
    def changes_attention(self) -> bool:
        """Whether `change` may ask for other visible keys or silent heads."""

    def ranking(self, depth: int) -> AttentionReceived | None:
        """The attention that it ranks tokens by, of a model with L = `depth` layers; None where it needs none."""

    def change(self, batch: Batch, taking_part: Tensor, received: Tensor | None, shape: Shape) -> Change:
        """The change of one forward.

        Args:
            taking_part: (B,) bool, the samples that are augmented in this forward.
            received: (B, T) float32, what `ranking` asked for.
        """


def uniform(batch: Batch, seed: int, *size: int) -> Tensor:
    """(B, *size) float32 in [0, 1): each sample's own draws, by `Batch.ids` and the seed, on the batch's device."""
    drawn = [torch.rand(size, generator=sample_generator(name, seed)) for name in batch.ids]
    return torch.stack(drawn).to(batch.valid.device)
