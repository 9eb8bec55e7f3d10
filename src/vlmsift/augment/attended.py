"""Mask the hidden states that receive most attention: the choice of Delta-AttnMask, as augmentation."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

import msgspec
import torch
from torch import Tensor

from vlmsift.augment.variant import Shape, Variant, uniform
from vlmsift.errors import UsageError
from vlmsift.parameters import Share
from vlmsift.passes.attention_received import AttentionReceived
from vlmsift.passes.intervene import Intervention
from vlmsift.passes.masking import Masking, choose_tokens, eligible_tokens, masked
from vlmsift.types import Batch


@dataclass(frozen=True)
class Attended(Masking, Variant):
    """The top set of `Masking`, or a part of it, loses its states at `depth`; gradients do not reach the choice.

    Source: Delta-AttnMask (arXiv 2508.09199) for the idea; `share` after STKIM of ACMIL (arXiv 2311.07125, which masks
    attention logits of a bag's top instances); `hints` after AttMask (ECCV 2022, which masks image patches).

    Attributes:
        share: random part of the top set that is masked in this forward; 1 = all of it.
        hints: of the tokens that receive most, this share of the eligible ones, some stay visible: as many as `ratio`
            times their number, drawn anew in each forward. 0 = none.
    """

    share: Share = 1.0
    hints: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0

    probability = 0.5
    source = "arXiv 2508.09199; share: arXiv 2311.07125; hints: AttMask, ECCV 2022"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.replace == "pool" and not self.state:
            raise UsageError("replace='pool' needs the pool's mean state; take that of a run by like=RUN")

    @property
    def changes_attention(self) -> bool:  # type: ignore[override]
        return self.replace == "drop"

    @property
    def asks_special(self) -> bool:  # type: ignore[override]
        return self.eligible != "image"

    def ranking(self, depth: int) -> AttentionReceived | None:  # type: ignore[override]
        return None if self.choose == "random" else super().ranking(depth)

    def intervene(self, batch: Batch, taking_part: Tensor, received: Tensor | None, shape: Shape) -> Intervention:
        # random tokens have no scores; sinks are then unknown, and only the first position is spared
        scores = torch.zeros(batch.valid.shape, device=batch.valid.device) if received is None else received
        masking = Masking(**{field.name: getattr(self, field.name) for field in fields(Masking)})
        chosen = choose_tokens(masking, batch, scores)
        if self.share < 1:
            chosen = self._some(chosen, batch)
        if self.hints > 0:
            chosen &= ~self._hinted(masking, batch, scores)
        return masked(masking, batch, chosen & taking_part[:, None], shape.layers)

    def _some(self, chosen: Tensor, batch: Batch) -> Tensor:
        """(B, T) bool: `share` of each sample's chosen tokens, at least one."""
        drawn = uniform(batch, self.seed + 2, chosen.shape[1]).masked_fill(~chosen, 2.0)  # (B, T); 2 is behind all
        wanted = (chosen.sum(1) * self.share).round().clamp(min=1)  # (B,)
        return chosen & (drawn.argsort(1).argsort(1) < wanted[:, None])  # twice = each token's rank

    def _hinted(self, masking: Masking, batch: Batch, scores: Tensor) -> Tensor:
        """(B, T) bool: the tokens that stay visible although they are among the most attended."""
        eligible = eligible_tokens(masking, batch, scores)
        count = eligible.sum(1)  # (B,)
        first = (count * self.hints).floor().clamp(min=1)
        rank = scores.masked_fill(~eligible, -torch.inf).argsort(dim=1, descending=True, stable=True).argsort(1)
        candidates = eligible & (rank < first[:, None])  # (B, T)
        wanted = (first * self.ratio).floor().clamp(min=1)
        drawn = uniform(batch, self.seed + 3, scores.shape[1]).masked_fill(~candidates, 2.0)
        return candidates & (drawn.argsort(1).argsort(1) < wanted[:, None])
