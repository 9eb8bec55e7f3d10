"""What the head says at supervised positions, and nowhere else: never (B, T, V) logits.

In: (B, T, D) final hidden states. Out: one number per sample, the mean over its supervised tokens, in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vlmsift.models import Adapter
from vlmsift.types import Batch, Need

LEAST_SPREAD = 0.001
"""Added to a deviation that something is divided by, nats: answers that the model is wholly sure of stay finite."""

HEAD_ELEMENTS = 1 << 26
"""Largest (rows, V) block of float32 logits held at once, in elements: 256 MiB."""


class Tokens:
    """What (N, V) logits say of N target tokens, each a line of `STATISTICS`; what several want is computed once."""

    def __init__(self, logits: Tensor, targets: Tensor) -> None:
        self.logits, self.targets = logits, targets

    @cached_property
    def loss(self) -> Tensor:
        """(N,) nats."""
        return torch.nn.functional.cross_entropy(self.logits, self.targets, reduction="none")

    @cached_property
    def error_norm(self) -> Tensor:
        """|| softmax - onehot ||_2 per token, 0 .. sqrt 2 (EL2N)."""
        probabilities = self.logits.softmax(-1)  # (N, V)
        chosen = probabilities.gather(1, self.targets[:, None])[:, 0]  # (N,)
        return (probabilities.square().sum(-1) - chosen.square() + (1 - chosen).square()).sqrt()

    @cached_property
    def logs(self) -> Tensor:
        """(N, V) log p."""
        return self.logits.log_softmax(-1)

    @cached_property
    def entropy(self) -> Tensor:
        """Of the model's own distribution, (N,) nats: the loss that it expects."""
        return -self._expected(self.logs)

    @cached_property
    def variance(self) -> Tensor:
        """Of -log p under the model's own distribution, (N,) nats^2: how far from the entropy a loss is expected."""
        return self._expected((self.logs + self.entropy[:, None]).square())

    @cached_property
    def surprise(self) -> Tensor:
        """(loss - entropy) / (sqrt(variance) + 0.001) of each token, (N,): Min-K%++ with its sign turned."""
        return (self.loss - self.entropy) / (self.variance.sqrt() + LEAST_SPREAD)

    def _expected(self, values: Tensor) -> Tensor:
        """(N,) sum over V of p x; a token that cannot occur (log p = -inf) counts nothing."""
        return (self.logs.exp() * values).nan_to_num(0.0, posinf=0.0, neginf=0.0).sum(-1)


STATISTICS = ("loss", "error_norm", "entropy", "variance", "surprise")
"""Attributes of `Tokens`. All that are asked for share one product with the head."""


@dataclass(frozen=True, slots=True)
class Head(Need):
    """A statistic of the head's output, a line of `STATISTICS`, mean over supervised tokens: (B,) float32.

    `highest` is the share of tokens, those of the highest values, that the mean is over; at least one.
    """

    statistic: str = "loss"
    highest: float = 1.0


def head_means(adapter: Adapter, batch: Batch, hidden: Tensor, heads: Sequence[Head]) -> list[Tensor]:
    """Per sample means (B,) of each of the `heads`, from one product with it. NaN where nothing is supervised."""
    host = batch.on_host  # places and counts are shapes
    sample, position = host.query_mask.nonzero(as_tuple=True)  # (N,) each, sample by sample
    count = host.query_mask.sum(1)  # (B,)
    device = batch.labels.device
    targets = host.labels[sample, position + 1].to(device, non_blocking=True)  # (N,)
    places = (sample * host.query_mask.shape[1] + position).to(hidden.device, non_blocking=True)  # (N,)
    rows = hidden.flatten(0, 1).index_select(0, places)  # (N, D)
    step = max(1, HEAD_ELEMENTS // adapter.text_config.vocab_size)
    found: dict[str, list[Tensor]] = {need.statistic: [] for need in heads}  # of each statistic, parts of (N,)
    for start in range(0, max(1, len(rows)), step):  # once even for no rows, so that their means are NaN
        logits = adapter.head(rows[start : start + step]).to(device)  # (step, V)
        tokens = Tokens(logits, targets[start : start + step])
        for name, values in found.items():
            values.append(getattr(tokens, name))
    every = {name: torch.cat(values) for name, values in found.items()}  # (N,) each
    return [_means(every[need.statistic], count, need.highest) for need in heads]


def _means(values: Tensor, count: Tensor, highest: float) -> Tensor:
    """(B,) float32 means of each sample's share of (N,) values, or of the highest of them; NaN of none.

    Args:
        count: (B,) on the host, how many are each sample's.
    """
    if highest < 1 and len(values):
        values, count = _highest(values, count, highest)
    # each sample's sum runs over its own alone, so that no neighbour changes its rounding
    lengths = count.to(values.device, non_blocking=True)
    return torch.segment_reduce(values.double(), "mean", lengths=lengths, unsafe=True).float()


def _highest(values: Tensor, count: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Of each sample's values the highest share, at least one, sample by sample; and how many those are."""
    place = torch.arange(int(count.max()))
    own = (place < count[:, None]).to(values.device, non_blocking=True)  # (B, n)
    ordered = values.new_full(own.shape, -torch.inf).masked_scatter_(own, values).sort(1, descending=True).values
    # Python's rounding, half to even, of each count; one of none is none
    kept = torch.tensor([min(n, max(1, round(share * n))) for n in count.tolist()])  # (B,)
    taken = (place < kept[:, None]).flatten().nonzero()[:, 0]  # on the host
    return ordered.flatten()[taken.to(values.device, non_blocking=True)], kept
