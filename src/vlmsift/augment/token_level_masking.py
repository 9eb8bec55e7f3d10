"""TLM, token-level masking: random tokens stop being keys; some see only themselves, some all but themselves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vlmsift.augment.variant import Shape, Variant, uniform
from vlmsift.parameters import Chance, Parameters
from vlmsift.passes.intervene import Intervention
from vlmsift.types import Batch


@dataclass(frozen=True)
class TokenLevelMasking(Parameters, Variant):
    """Drops tokens anew in every layer.

    Source: arXiv 2310.18738, where 5 % are dropped on RTE, 10 % on the Chinese tasks. A kept row does not see dropped
    keys. A dropped row, by a fair coin, sees itself alone ("siblings" masked) or all but itself ("self" masked; a
    row that would see nothing keeps itself). Padding stays invisible, which the released code forgets for the latter.
    """

    ratio: Chance = 0.05  # chance of a token to be dropped in a layer
    seed: int = 0  # of the draws, together with the forward's number

    source = "arXiv 2310.18738"
    changes_attention = True

    def intervene(self, batch: Batch, taking_part: Tensor, received: Tensor | None, shape: Shape) -> Intervention:
        # drawn for all layers now, so that a layer that is computed again in the backward pass sees the same
        drawn = uniform(batch, self.seed, 2, shape.layers, batch.valid.shape[1])  # (B, 2, L, T)
        dropped = (drawn[:, 0] < self.ratio) & batch.valid[:, None] & taking_part[:, None, None]  # (B, L, T)
        alone = drawn[:, 1] < 0.5  # (B, L, T)

        def visible(layer: int, before: Tensor) -> Tensor:
            itself = torch.eye(before.shape[-1], dtype=torch.bool, device=before.device)  # (T, T)
            gone = dropped[:, layer].to(before.device)  # (B, T)
            others = before & ~itself  # (B, T, T)
            others = torch.where(others.any(-1, keepdim=True), others, before)
            of_gone = torch.where(alone[:, layer, :, None].to(before.device), before & itself, others)
            return torch.where(gone[..., None], of_gone, before & ~gone[:, None])

        return Intervention(visible=visible, chosen=dropped.any(1))
