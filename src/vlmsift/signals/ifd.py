"""IFD, instruction-following difficulty: how little the prompt helps the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vlmsift.parameters import Parameters
from vlmsift.passes.interventions import UnpromptedLoss
from vlmsift.passes.loss import Head
from vlmsift.types import Batch, Measured, Need, Signal

SMALLEST = 1e-6
"""A loss without the prompt below this leaves the ratio undefined, in nats."""


@dataclass(frozen=True)
class Ifd(Parameters, Signal):
    """Answer loss divided by its loss without the prompt, (B,) float32; NaN where the latter is undefined or 0.

    Source: Cherry LLM (arXiv 2308.12032). Without the prompt = prompt and image are dropped as keys in every layer, so
    positions stay where they were; see `passes.interventions.UnpromptedLoss`; that, and counting the image to the
    prompt, is ours. The method drops samples above 1, whose prompt misleads, and keeps the highest of the rest.

    Attributes:
        image: "dropped" with the prompt, or "seen" in both losses (the ratio of PreSel, arXiv 2503.07591).
        ratio: of the mean "loss", as in the released code, or of the "perplexity", as later variants have it: the
            exponential of the loss's difference. Both are above 1 together, but rank otherwise.
    """

    image: Literal["dropped", "seen"] = "dropped"
    ratio: Literal["loss", "perplexity"] = "loss"

    name = "ifd"
    unit = "share of what it is without the prompt"
    higher_means = "the prompt helps less: harder to follow; above 1 it misleads"
    good = "lowest"

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Head(), UnpromptedLoss(self.image))

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        loss: Tensor = measured[Head()]
        without: Tensor = measured[UnpromptedLoss(self.image)]
        if self.ratio == "perplexity":
            return (loss - without).exp()
        return loss / without.masked_fill(without < SMALLEST, float("nan"))
