"""Needs for the answer's loss when attention itself is changed: the decoder is run again, the images are not.

In: a batch. Out: what is done to attention, and for which samples that means nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from vlmsift.errors import UsageError
from vlmsift.models import Adapter
from vlmsift.types import Batch


@dataclass(frozen=True, slots=True)
class Change:
    """What is done to attention.

    Attributes:
        dropped: (B, T) bool, keys that no other position may see; None = no such key.
        uniform: layer -> heads that look at every visible key alike.
        undefined: (B,) bool, samples for which the change means nothing; None = no such sample.
    """

    dropped: Tensor | None = None
    uniform: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    undefined: Tensor | None = None


@runtime_checkable
class ChangedLoss(Protocol):
    """A need for the answer loss under a change: (B,) float32 nats. Costs (L - start) / L of a text forward."""

    @property
    def start(self) -> int:
        """The first layer that the change reaches."""

    def change(self, adapter: Adapter, batch: Batch) -> Change | None:
        """The change; None where it is undefined for the whole batch, which then costs nothing."""


@dataclass(frozen=True, slots=True)
class UnpromptedLoss:
    """Answer loss when no position can see the prompt (each still sees itself): (B,) float32. One text forward.

    The keys are dropped in every layer, so nothing leaks through other positions. What stays visible: the answers
    (earlier turns' too), and the sample's first special token (bos, or the template's opening mark), on which attention
    comes to rest. Positions are not moved together. The first token of an answer is predicted from the prompt's last
    token, a template's own. Ours; the usual second input without a prompt means the same (IFD).

    Attributes:
        image: "dropped" with the prompt, or "seen".
    """

    image: Literal["dropped", "seen"] = "dropped"

    @property
    def start(self) -> int:
        return 0

    def change(self, adapter: Adapter, batch: Batch) -> Change | None:
        first_special = batch.special_mask & (batch.special_mask.cumsum(1) == 1)
        dropped = batch.valid & (batch.labels == -100) & ~first_special
        if self.image == "seen":
            dropped &= ~batch.image_mask
        return Change(dropped=dropped, undefined=~dropped.any(1))


@dataclass(frozen=True, slots=True)
class UniformHeadsLoss:
    """Answer loss when some heads look at every key they may see alike: (B,) float32 (AttentionInfluence, 2505.07293).

    At position t such a head gives out the mean of the values that it can see, 1 / (t + 1) each in a causal layer: the
    paper says 1 / L only. It is not silenced. Other heads are as they were.

    Attributes:
        heads: (layer, head) pairs, counted from 0.
    """

    heads: tuple[tuple[int, int], ...]

    @property
    def start(self) -> int:
        return min((layer for layer, _ in self.heads), default=0)

    def change(self, adapter: Adapter, batch: Batch) -> Change | None:
        if not self.heads:
            raise UsageError(
                "attention_influence needs the heads to make uniform and was given none; find them with "
                "vlmsift.passes.retrieval.retrieval_heads (one forward per probe), as `score` does before it measures, "
                "and give them as heads=12.3+14.0"
            )
        most = int(adapter.text_config.num_attention_heads)
        for layer, head in self.heads:
            if not (0 <= layer < adapter.depth and 0 <= head < most):
                raise UsageError(
                    f"head {layer}.{head} is not in this model of {adapter.depth} layers with {most} heads; those of "
                    "another model mean nothing here, so find its own"
                )
        layers = {layer for layer, _ in self.heads}
        return Change(uniform={layer: tuple({head for at, head in self.heads if at == layer}) for layer in layers})
