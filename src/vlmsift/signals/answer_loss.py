"""The mean loss of the answer's tokens."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vlmsift.passes.loss import Head
from vlmsift.types import Batch, Measured, Signal


@dataclass(frozen=True)
class AnswerLoss(Signal):
    """Mean cross-entropy of the supervised tokens, (B,) float32 nats; exp of it is the perplexity."""

    name = "answer_loss"
    unit = "nats"
    higher_means = "the model finds the answer less likely: harder, or wrong"
    good = "lowest"
    needs = (Head(),)

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        return measured[Head()]
