"""How much of the answer's attention falls on the image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vlmsift.passes.attention_received import ImageAttention as OnImage
from vlmsift.types import Batch, Measured, Signal


@dataclass(frozen=True)
class ImageAttention(Signal):
    """Attention mass of answer rows on image tokens, (B,) float32, 0 .. 1; NaN for text-only samples. Source: MAGIC."""

    name = "image_attention"
    unit = "share"
    higher_means = "while answering, the model looks more at the image"
    good = "highest"
    needs = (OnImage(),)

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        return measured[OnImage()][:, 0]
