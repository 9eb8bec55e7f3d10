"""How much of the answer's attention falls on the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vlmsift.passes.attention_received import ImageAttention as OnImage
from vlmsift.types import Batch, Measured, Need, Signal


@dataclass(frozen=True)
class ImageAttention(Signal):
    """Attention mass of answer rows on image tokens, (B,) float32, 0 .. 1; NaN for text-only samples. Source: MAGIC."""

    name: ClassVar[str] = "image_attention"
    unit: ClassVar[str] = "share"
    higher_means: ClassVar[str] = "while answering, the model looks more at the image"
    good = "highest"
    needs: ClassVar[tuple[Need, ...]] = (OnImage(),)

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        mass: Tensor = measured[OnImage()][:, 0]
        return mass
