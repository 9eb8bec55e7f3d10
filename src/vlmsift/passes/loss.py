"""What the head says at supervised positions, and nowhere else: never (B, T, V) logits.

In: (B, T, D) final hidden states. Out: one number per sample, the mean over its supervised tokens, in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlmsift.models import Adapter
from vlmsift.types import Batch, Need

HEAD_ELEMENTS = 1 << 26
"""Largest (rows, V) block of float32 logits held at once, in elements: 256 MiB."""


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """(N, V), (N,) -> (N,) nats."""
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none")


def error_norm(logits: Tensor, targets: Tensor) -> Tensor:
    """|| softmax - onehot ||_2 per token, 0 .. sqrt 2 (EL2N)."""
    probabilities = logits.softmax(-1)  # (N, V)
    chosen = probabilities.gather(1, targets[:, None])[:, 0]  # (N,)
    return (probabilities.square().sum(-1) - chosen.square() + (1 - chosen).square()).sqrt()


STATISTICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"loss": cross_entropy, "error_norm": error_norm}
"""Name -> (N, V) logits and (N,) targets to (N,) numbers. All that are asked for share one product with the head."""


@dataclass(frozen=True, slots=True)
class Head(Need):
    """A statistic of the head's output, a line of `STATISTICS`, mean over supervised tokens: (B,) float32."""

    statistic: str = "loss"


def head_means(adapter: Adapter, batch: Batch, hidden: Tensor, statistics: Sequence[str]) -> list[Tensor]:
    """Per sample means (B,) of each statistic, from one product with the head. NaN where nothing is supervised."""
    sample, position = batch.query_mask.nonzero(as_tuple=True)  # (N,) each, sample by sample
    targets = batch.labels[sample, position + 1]  # (N,)
    rows = hidden[sample.to(hidden.device), position.to(hidden.device)]  # (N, D)
    step = max(1, HEAD_ELEMENTS // adapter.text_config.vocab_size)
    tokens: list[list[Tensor]] = [[] for _ in statistics]  # of each statistic, parts of (N,)
    for start in range(0, max(1, len(rows)), step):  # once even for no rows, so that their means are NaN
        logits = adapter.head(rows[start : start + step]).to(targets.device)  # (step, V)
        for values, name in zip(tokens, statistics, strict=True):
            values.append(STATISTICS[name](logits, targets[start : start + step]))
    count = batch.query_mask.sum(1)  # (B,)
    means = []
    for values in tokens:
        per_sample = torch.split(torch.cat(values), count.tolist())  # so that no neighbour changes a sum's rounding
        means.append(torch.stack([part.double().mean().float() for part in per_sample]))  # (B,)
    return means
