"""EL2N: the norm of the prediction error at the answer's tokens."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vlmsift.passes.loss import Head
from vlmsift.types import Batch, Measured, Signal


@dataclass(frozen=True)
class El2n(Signal):
    """Mean over supervised tokens of || softmax - onehot ||_2, (B,) float32, 0 .. sqrt 2.

    Source: EL2N in its VLM form, one checkpoint and a token mean (Paul et al. 2021; COINCIDE).
    """

    name = "el2n"
    unit = "norm, 0 to 1.41"
    higher_means = "the model predicts the answer's tokens worse"
    good = "lowest"
    needs = (Head("error_norm"),)

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        return measured[Head("error_norm")]
