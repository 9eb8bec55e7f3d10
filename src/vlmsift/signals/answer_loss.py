"""The mean loss of the answer's tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vlmsift.passes.loss import Head
from vlmsift.types import Batch, Measured, Need, Signal


@dataclass(frozen=True)
class AnswerLoss(Signal):
    """Mean cross-entropy of the supervised tokens, (B,) float32 nats; exp of it is the perplexity."""

    name: ClassVar[str] = "answer_loss"
    unit: ClassVar[str] = "nats"
    higher_means: ClassVar[str] = "the model finds the answer less likely: harder, or wrong"
    good = "lowest"
    needs: ClassVar[tuple[Need, ...]] = (Head(),)

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        loss: Tensor = measured[Head()]
        return loss
