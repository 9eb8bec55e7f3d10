"""How unsure the model is of the answer, whatever the answer says."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vlmsift.passes.loss import Head
from vlmsift.types import Batch, Measured, Signal


@dataclass(frozen=True)
class Entropy(Signal):
    """Mean entropy of the model's distribution at the supervised tokens, (B,) float32 nats, 0 .. log V.

    The loss that the model expects of an answer that it would give itself, each token after the sample's own ones.
    """

    name = "entropy"
    unit = "nats"
    higher_means = "the model is less sure what the answer is, be it right or wrong"
    needs = (Head("entropy"),)

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        return measured[Head("entropy")]
