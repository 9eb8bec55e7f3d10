"""The length of the answer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vlmsift.types import Batch, Measured, Signal


@dataclass(frozen=True)
class AnswerTokens(Signal):
    """Supervised tokens, end tokens included, (B,) float32. Every loss score leans on it somewhat."""

    name = "answer_tokens"
    unit = "tokens"
    higher_means = "the answer is longer"
    good = "highest"

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        return batch.query_mask.sum(1).float()
