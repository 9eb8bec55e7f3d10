"""Delta-AttnMask: how much the answer's loss rises when the hidden states that receive most attention are masked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vlmsift.passes.interventions import MaskedLoss
from vlmsift.passes.loss import Head
from vlmsift.passes.masking import Masking
from vlmsift.types import Batch, Measured, Need, Signal


@dataclass(frozen=True)
class DeltaAttnMask(Masking, Signal):
    """Masked loss minus loss, (B,) float32; NaN where no token is eligible (text-only samples, by default).

    Source: Delta-AttnMask, arXiv 2508.09199: the score, its sign, and "mask what receives most attention". The paper
    settles none of the fields below; see `Masking` for them. Their defaults are ours (docs/methods.md).

    Attributes:
        relative: divide by the loss, so that hard answers do not lead by being hard.
    """

    relative: bool = False

    name: ClassVar[str] = "delta_attnmask"
    higher_means: ClassVar[str] = (
        "the answer leans on what the model attends to: image, question and answer belong together"
    )
    good = "highest"

    @property
    def unit(self) -> str:
        """Unit of the value."""
        return "share of the loss" if self.relative else "nats"

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
