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

LEAST_SPREAD = 0.001
"""Added to a deviation that something is divided by, nats: answers that the model is wholly sure of stay finite."""

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


def entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Of the model's own distribution, (N,) nats: the loss that it expects."""
    logs = logits.log_softmax(-1)  # (N, V)
    return -_expected(logs, logs)


def variance(logits: Tensor, targets: Tensor) -> Tensor:
    """Of -log p under the model's own distribution, (N,) nats^2: how far from the entropy a loss is expected to lie."""
    logs = logits.log_softmax(-1)  # (N, V)
    off = logs - _expected(logs, logs)[:, None]  # (N, V)
    return _expected(logs, off.square())


def token_surprise(logits: Tensor, targets: Tensor) -> Tensor:
    """(loss - entropy) / (sqrt(variance) + 0.001) of each token, (N,): Min-K%++ with its sign turned."""
    apart = cross_entropy(logits, targets) - entropy(logits, targets)
    return apart / (variance(logits, targets).sqrt() + LEAST_SPREAD)


def _expected(logs: Tensor, values: Tensor) -> Tensor:
    """(N,) sum over V of p x; a token that cannot occur (log p = -inf) counts nothing."""
    return (logs.exp() * values).nan_to_num(0.0, posinf=0.0, neginf=0.0).sum(-1)


STATISTICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "loss": cross_entropy,
    "error_norm": error_norm,
    "entropy": entropy,
    "variance": variance,
    "surprise": token_surprise,
}
"""Name -> (N, V) logits and (N,) targets to (N,) numbers. All that are asked for share one product with the head."""


@dataclass(frozen=True, slots=True)
class Head(Need):
    """A statistic of the head's output, a line of `STATISTICS`, mean over supervised tokens: (B,) float32.

    `highest` is the share of tokens, those of the highest values, that the mean is over; at least one.
    """

    statistic: str = "loss"
    highest: float = 1.0


def head_means(adapter: Adapter, batch: Batch, hidden: Tensor, heads: Sequence[Head]) -> list[Tensor]:
    """Per sample means (B,) of each of the `heads`, from one product with it. NaN where nothing is supervised."""
    sample, position = batch.query_mask.nonzero(as_tuple=True)  # (N,) each, sample by sample
    targets = batch.labels[sample, position + 1]  # (N,)
    rows = hidden[sample.to(hidden.device), position.to(hidden.device)]  # (N, D)
    step = max(1, HEAD_ELEMENTS // adapter.text_config.vocab_size)
    tokens: dict[str, list[Tensor]] = {need.statistic: [] for need in heads}  # of each statistic, parts of (N,)
    for start in range(0, max(1, len(rows)), step):  # once even for no rows, so that their means are NaN
        logits = adapter.head(rows[start : start + step]).to(targets.device)  # (step, V)
        for name, values in tokens.items():
            values.append(STATISTICS[name](logits, targets[start : start + step]))
    count = batch.query_mask.sum(1)  # (B,)
    means = []
    for need in heads:
        every = torch.cat(tokens[need.statistic])  # (N,)
        per_sample = torch.split(every, count.tolist())  # so that no neighbour changes a sum's rounding
        means.append(torch.stack([_mean(part, need.highest) for part in per_sample]))  # (B,)
    return means


def _mean(values: Tensor, highest: float) -> Tensor:
    """Of one sample's (n,) tokens, or of the highest share of them."""
    if highest < 1 and len(values):
        values = values.topk(max(1, round(highest * len(values)))).values
    return values.double().mean().float()
