"""HeadMask: random attention heads fall silent for a step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vlmsift.augment.variant import Shape, Variant, uniform
from vlmsift.parameters import Chance, Parameters
from vlmsift.passes.intervene import Intervention
from vlmsift.types import Batch


@dataclass(frozen=True)
class HeadMask(Parameters, Variant):
    """Zeroes the output of `ratio` of all L x H heads, drawn anew per sample and forward.

    Source: arXiv 2009.09672, whose Random-18 silences 18 of 144 heads. Its schedule is not known, and neither is a
    rescaling of the others; here there is none.
    """

    ratio: Chance = 0.125  # share of the heads; floor, at least one
    seed: int = 0

    source = "arXiv 2009.09672"
    changes_attention = True

    def intervene(self, batch: Batch, taking_part: Tensor, received: Tensor | None, shape: Shape) -> Intervention:
        slots = shape.layers * shape.heads
        count = max(1, int(slots * self.ratio + 1e-6))
        first = uniform(batch, self.seed, slots).argsort(1)[:, :count]  # (B, count)
        silent = torch.zeros((len(batch), slots), dtype=torch.bool, device=first.device).scatter_(1, first, True)
        silent &= taking_part[:, None]  # (B, L * H)
        return Intervention(silent_heads=silent.view(len(batch), shape.layers, shape.heads).transpose(0, 1))
