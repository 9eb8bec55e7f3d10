"""NEFTune: uniform noise on the embedded tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vlmsift.augment.variant import Shape, Variant, uniform
from vlmsift.parameters import Parameters, Positive
from vlmsift.passes.intervene import Intervention
from vlmsift.types import Batch


@dataclass(frozen=True)
class Neftune(Parameters, Variant):
    """Adds U(-1, 1) * alpha / sqrt(n D) to what enters the first layer; n = the sample's tokens, padding excluded.

    Source: NEFTune (arXiv 2310.05914), whose released code counts padding in n. Its hook on the token embedding
    reaches text only; `tokens="all"` noises the image's states too.
    """

    alpha: Positive = 5.0  # size of the noise; the paper tries 5, 10 and 15
    tokens: Literal["text", "all"] = "text"
    seed: int = 0

    source = "arXiv 2310.05914"

    def intervene(self, batch: Batch, taking_part: Tensor, received: Tensor | None, shape: Shape) -> Intervention:
        noised = batch.valid & taking_part[:, None]  # (B, T)
        if self.tokens == "text":
            noised &= ~batch.image_mask

        def states(entering: Tensor) -> Tensor:
            length, width = entering.shape[1:]
            size = self.alpha / (batch.valid.sum(1) * width).sqrt()  # (B,)
            noise = (uniform(batch, self.seed, length, width) * 2 - 1) * size[:, None, None]  # (B, T, D)
            return entering + (noise * noised[..., None]).to(entering.dtype)

        return Intervention(states=states, chosen=noised)
