"""How much the image helps the answer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vlmsift.passes.interventions import BlindLoss
from vlmsift.passes.loss import Head
from vlmsift.types import Batch, Measured, Signal


@dataclass(frozen=True)
class ImageGain(Signal):
    """Loss without the image's keys minus loss with them, (B,) float32 nats; NaN for text-only samples.

    Source: the gain term of MAGIC. Instead of a second input without the image, the image's keys
    are dropped in every layer, so positions stay where they were; that is ours.
    """

    name = "image_gain"
    unit = "nats"
    higher_means = "the answer is easier to predict with the image than without it"
    good = "highest"
    needs = (Head(), BlindLoss())

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        return measured[BlindLoss()] - measured[Head()]
