"""Several signals as one number, weighed by how well they found the plants of a calibration."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vlmsift.types import Batch, Measured, Need, Signal

FLOOR = 1e-4
"""Smallest value whose logarithm is taken."""


@dataclass(frozen=True)
class Part:
    """One signal's share: `weight` x (value - `mean`) / `scale`; `word` builds the signal, as on the command line.

    With `log`, the value is the logarithm of the signal: a loss of .01 and one of .1 differ as .1 and 1 do.
    """

    word: str
    signal: Signal
    mean: float
    scale: float
    weight: float
    log: bool = False

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        """(B,) float64, NaN where undefined; double, so that large means do not eat small differences."""
        value = self.signal(batch, measured).double()
        value = value.clamp(min=FLOOR).log() if self.log else value
        return self.weight * (value - self.mean) / self.scale


@dataclass(frozen=True)
class Calibrated(Signal):
    """Log-odds of "original" against "plant", (B,) float32; NaN where every part is undefined. Ours.

    A part that is undefined for a sample counts as its mean, so it adds nothing. The weights come from a calibration on
    one pool with one model (`vlmsift calibrate`) and mean nothing elsewhere.

    Attributes:
        parts: signals with their weights; at least one. intercept: log-odds of a sample that is average in every part.
    """

    parts: tuple[Part, ...]
    intercept: float = 0.0

    name = "calibrated"
    unit = "log-odds"
    higher_means = "the sample looks less like the bad samples planted by the calibration"
    good = "highest"

    @property
    def needs(self) -> tuple[Need, ...]:
        return tuple(dict.fromkeys(need for part in self.parts for need in part.signal.needs))

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        shares = torch.stack([part(batch, measured) for part in self.parts])  # (parts, B)
        total = shares.nan_to_num(0.0).sum(0) + self.intercept
        return total.masked_fill(shares.isnan().all(0), torch.nan).float()
