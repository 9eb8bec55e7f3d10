"""How much less likely an answer is than the model itself expects of answers here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vlmsift.parameters import Parameters, Share
from vlmsift.passes.loss import LEAST_SPREAD, Head
from vlmsift.types import Batch, Measured, Need, Signal


@dataclass(frozen=True)
class Surprise(Parameters, Signal):
    """(loss - entropy) / (sqrt(V / T) + 0.001), (B,) float32 in standard deviations; from the loss's own forward.

    Loss and entropy are means over the T supervised tokens, and V is the mean over them of the variance of -log p under
    the model's distribution: so many deviations is the loss from where the model expects it. A question that has many
    right answers raises loss and entropy alike and does not count; a wrong answer raises the loss alone. Source:
    Min-K%++ (arXiv 2404.02936), which takes it token by token to find training data; the form per answer is ours.

    Attributes:
        of: the whole "answer", or the mean over single "tokens", each in its own deviations, as the source has it.
        highest: with "tokens", the share of the most surprising ones that the mean is over (the K of Min-K).
    """

    of: Literal["answer", "tokens"] = "answer"
    highest: Share = 1.0

    name = "surprise"
    unit = "standard deviations"
    higher_means = "the answer is less likely than the model expects of answers here: wrong, or new to it"
    good = "lowest"

    @property
    def needs(self) -> tuple[Need, ...]:
        if self.of == "tokens":
            return (Head("surprise", self.highest),)
        return (Head(), Head("entropy"), Head("variance"))

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        if self.of == "tokens":
            value: Tensor = measured[Head("surprise", self.highest)]
            return value
        tokens = batch.query_mask.sum(1).float().cpu()  # (B,)
        spread = (measured[Head("variance")] / tokens).sqrt()
        difference: Tensor = measured[Head()] - measured[Head("entropy")]
        return difference / (spread + LEAST_SPREAD)
