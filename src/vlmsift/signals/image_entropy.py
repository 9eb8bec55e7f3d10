"""How widely the answer's attention spreads over the image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vlmsift.passes.attention_received import ImageAttention as OnImage
from vlmsift.types import Batch, Measured, Signal


@dataclass(frozen=True)
class ImageEntropy(Signal):
    """Entropy of answer rows' attention over the image, as a share of its maximum, (B,) float32, 0 .. 1.

    NaN for text-only samples. Source: BYE's entropy and MAGIC's focus term (arXiv 2505.16916), without their
    choice of layers.
    """

    name = "image_entropy"
    unit = "share of the maximum"
    higher_means = "while answering, the model's look is spread over the image, not held by one spot"
    good = "lowest"
    needs = (OnImage(),)

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        return measured[OnImage()][:, 1]
