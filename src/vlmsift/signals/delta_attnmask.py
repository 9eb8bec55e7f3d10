"""Delta-AttnMask: how much the answer's loss rises when the hidden states that receive most attention are masked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vlmsift.errors import UsageError
from vlmsift.passes.capture import Capture
from vlmsift.passes.interventions import MaskedLoss
from vlmsift.passes.loss import Head
from vlmsift.passes.masking import Masking, encode_state
from vlmsift.passes.mean_state import mean_state
from vlmsift.types import Batch, Measured, Need, Signal

if TYPE_CHECKING:
    from vlmsift.models import Adapter

DRAWN = 64
"""Samples whose states make the pool's mean state."""


@dataclass(frozen=True)
class DeltaAttnMask(Masking, Signal):
    """Masked loss minus loss, (B,) float32; NaN where no token is eligible (text-only samples, by default).

    Source: Delta-AttnMask, arXiv 2508.09199: the score, its sign, and "mask what receives most attention". The paper
    settles none of the fields below; see `Masking` for them. Their defaults are ours (docs/methods.md).

    Attributes:
        relative: divide by the loss, so that hard answers do not lead by being hard.
    """

    relative: bool = False

    name = "delta_attnmask"
    higher_means = "the answer leans on what the model attends to: image, question and answer belong together"
    good = "highest"

    @property
    def unit(self) -> str:
        return "share of the loss" if self.relative else "nats"

    def bind(
        self,
        model: Adapter,
        recorded: Sequence[Mapping[str, Any]],
        draw: Callable[[int], Iterable[Batch]] | None = None,
    ) -> DeltaAttnMask:
        """With the pool's mean state where that replaces what is masked: the recorded one, or that of drawn samples.

        Raises:
            UsageError: no pool is there, or none of its samples can be encoded.
        """
        if self.replace != "pool" or self.state:
            return self
        if state := self.recorded_value("state", recorded):
            return replace(self, state=state)
        if draw is None:
            raise UsageError("replace='pool' needs a pool, whose mean state it is; there is none here")
        with Capture(model) as capture:
            return replace(self, state=encode_state(mean_state(capture, self.layer(model.depth), draw(DRAWN))))

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Head(), MaskedLoss(self._masking))

    @property
    def _masking(self) -> Masking:
        return Masking(**{name: getattr(self, name) for name in Masking.__dataclass_fields__})

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        loss: Tensor = measured[Head()]
        rise: Tensor = measured[MaskedLoss(self._masking)] - loss
        return rise / loss.clamp(min=1e-6) if self.relative else rise
