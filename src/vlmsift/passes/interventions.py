"""Answer losses under a change: the decoder is run again from a layer, the images are not encoded again.

In: a batch, and the attention that its tokens received where that decides the change. Out: an `Intervention`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vlmsift.errors import UsageError
from vlmsift.models import Adapter
from vlmsift.passes.attention_received import AttentionReceived
from vlmsift.passes.intervene import Intervention, drop_keys
from vlmsift.passes.masking import Masking, choose_tokens, masked
from vlmsift.passes.needs import Rerun
from vlmsift.types import Batch


@dataclass(frozen=True, slots=True)
class MaskedLoss(Rerun):
    """Answer loss when chosen tokens lose their states: (B,) float32; NaN where no token is eligible."""

    masking: Masking

    def start(self, depth: int) -> int:
        return self.masking.layer(depth)

    def ranking(self, depth: int) -> AttentionReceived:
        return self.masking.ranking(depth)

    def applies(self, adapter: Adapter, batch: Batch) -> bool:
        return self.masking.eligible != "image" or bool(batch.on_host.image_mask.any())

    def intervene(self, adapter: Adapter, batch: Batch, received: Tensor | None) -> Intervention:
        assert received is not None
        return masked(self.masking, batch, choose_tokens(self.masking, batch, received), adapter.depth)


@dataclass(frozen=True, slots=True)
class BlindLoss(Rerun):
    """Answer loss when no position can see an image token (each still sees itself): (B,) float32; NaN without image.

    The keys are dropped in every layer, so the cost is one more text forward.
    """

    def applies(self, adapter: Adapter, batch: Batch) -> bool:
        return bool(batch.on_host.image_mask.any())

    def intervene(self, adapter: Adapter, batch: Batch, received: Tensor | None) -> Intervention:
        return _without(batch.image_mask)


@dataclass(frozen=True, slots=True)
class UnpromptedLoss(Rerun):
    """Answer loss when no position can see the prompt (each still sees itself): (B,) float32. One text forward.

    The keys are dropped in every layer, so nothing leaks through other positions. What stays visible: the answers
    (earlier turns' too), and the sample's first special token (bos, or the template's opening mark), on which attention
    comes to rest. Positions are not moved together. The first token of an answer is predicted from the prompt's last
    token, a template's own. Ours; the usual second input without a prompt means the same (IFD).
    """

    image: Literal["dropped", "seen"] = "dropped"  # its keys go with the prompt's, or stay

    def intervene(self, adapter: Adapter, batch: Batch, received: Tensor | None) -> Intervention:
        first_special = batch.special_mask & (batch.special_mask.cumsum(1) == 1)  # (B, T): one of each sample
        dropped = batch.valid & (batch.labels == -100) & ~first_special  # (B, T)
        return _without(dropped & ~batch.image_mask if self.image == "seen" else dropped)


@dataclass(frozen=True, slots=True)
class UniformHeadsLoss(Rerun):
    """Answer loss when some heads look at every key they may see alike: (B,) float32 (AttentionInfluence, 2505.07293).

    At position t such a head gives out the mean of the values that it can see, 1 / (t + 1) each in a causal layer: the
    paper says 1 / L only. It is not silenced. Other heads are as they were.
    """

    heads: tuple[tuple[int, int], ...]  # (layer, head) pairs, counted from 0

    def start(self, depth: int) -> int:
        return min((layer for layer, _ in self.heads), default=0)

    def applies(self, adapter: Adapter, batch: Batch) -> bool:
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
        return True

    def intervene(self, adapter: Adapter, batch: Batch, received: Tensor | None) -> Intervention:
        layers = {layer for layer, _ in self.heads}
        uniform = {layer: tuple({head for at, head in self.heads if at == layer}) for layer in layers}
        return Intervention(self.start(adapter.depth), uniform_heads=uniform)


def _without(dropped: Tensor) -> Intervention:
    """Keys (B, T) dropped in every layer; undefined for a sample that has none of them."""
    return Intervention(visible=drop_keys(dropped), undefined=~dropped.any(1), chosen=dropped)
