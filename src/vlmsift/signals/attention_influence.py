"""AttentionInfluence: how much the loss rises when the heads that look things up no longer can."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from vlmsift.errors import UsageError
from vlmsift.parameters import Count, Parameters, Positive, Seed, Share
from vlmsift.passes.capture import Capture
from vlmsift.passes.interventions import UniformHeadsLoss
from vlmsift.passes.loss import Head
from vlmsift.passes.retrieval import retrieval_heads
from vlmsift.types import Batch, Measured, Need, Signal

if TYPE_CHECKING:
    from vlmsift.models import Adapter


@dataclass(frozen=True)
class AttentionInfluence(Parameters, Signal):
    """(loss with uniform heads - loss) / loss, (B,) float32.

    Source: AttentionInfluence (arXiv 2505.07293), eq. 5, for the answer's tokens. The heads' weights become equal over
    the keys they may see; the paper says 1 / L, and a public re-implementation silences the heads, which is another
    thing. The floor is ours.

    Attributes:
        heads: "layer.head" joined by "+", e.g. "12.3+14.0", counted from 0: retrieval heads of this very model; "" =
            `score` finds them first, by the fields below, and writes them to the run's settings.
        needle: what the heads look up, in "text" (the paper) or in an "image" (ours).
        probes, tokens, share, seed: how they are found; see `passes.retrieval.retrieval_heads`.
        floor: a smaller loss, in nats, counts as this, so that answers known by heart do not lead by being easy.
    """

    heads: str = ""
    needle: Literal["text", "image"] = "text"
    probes: Count = 800
    tokens: Count = 4096
    share: Share = 0.05
    seed: Seed = 0
    floor: Positive = 0.01

    name = "attention_influence"
    unit = "share of the loss"
    higher_means = "the answer leans more on what the model looks up in image and text"
    good = "highest"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.pairs()

    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The heads as (layer, head), ascending, each once."""
        words = [word.strip() for word in self.heads.split("+") if word.strip()]
        found = [re.fullmatch(r"(\d+)\.(\d+)", word) for word in words]
        if None in found:
            raise UsageError(
                f"attention_influence: heads={self.heads!r} is not a list of layer.head joined by +, e.g. 12.3+14.0"
            )
        return tuple(sorted({(int(match[1]), int(match[2])) for match in found if match}))

    def bind(self, model: Adapter, recorded: Sequence[Mapping[str, Any]], draw: Any = None) -> AttentionInfluence:
        """With its heads: those given, those that a run of this model has recorded for the same fields, or found now.

        Raises:
            UsageError: as `retrieval_heads`.
        """
        if self.heads:
            return self
        if heads := self.recorded_value("heads", recorded):
            return replace(self, heads=heads)
        with Capture(model) as capture:
            found = retrieval_heads(
                capture, needle=self.needle, probes=self.probes, tokens=self.tokens, share=self.share, seed=self.seed
            )
        return replace(self, heads=found.word)

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Head(), UniformHeadsLoss(self.pairs()))

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        loss: Tensor = measured[Head()]
        rise: Tensor = measured[UniformHeadsLoss(self.pairs())] - loss
        return rise / loss.clamp(min=self.floor)
