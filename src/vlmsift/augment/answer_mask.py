"""MEAP at fine-tuning: some of the answer's own tokens are hidden from the model that has to write it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vlmsift.augment.variant import Shape, Variant, uniform
from vlmsift.parameters import Chance, Parameters
from vlmsift.passes.intervene import Intervention
from vlmsift.passes.masking import Masking, replace_states
from vlmsift.types import Batch


@dataclass(frozen=True)
class AnswerMask(Parameters, Variant):
    """Hides `ratio` of the answer's input tokens; all labels stay.

    Source: MEAP (arXiv 2502.07490), which in fine-tuning adds a copy of each sample with 10 % of a long answer masked,
    supervised there alone. Ours is the plain form of the same idea, without a copy. MEAP's [MASK] needs a new row in
    the embedding; here a hidden token enters as the mean of the sample's embedded tokens, so LoRA needs nothing new.
    """

    ratio: Chance = 0.1  # chance of an answer token to be hidden
    seed: int = 0

    source = "arXiv 2502.07490"

    def intervene(self, batch: Batch, taking_part: Tensor, received: Tensor | None, shape: Shape) -> Intervention:
        drawn = uniform(batch, self.seed, batch.valid.shape[1])  # (B, T)
        chosen = (drawn < self.ratio) & (batch.labels != -100) & batch.valid & taking_part[:, None]
        masking = Masking(replace="mean")
        return Intervention(states=lambda states: replace_states(masking, batch, states, chosen), chosen=chosen)
