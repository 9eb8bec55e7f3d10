"""How strongly, and in how many ways at once, the text looks at the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vlmsift.parameters import Count, Parameters
from vlmsift.passes.spectrum import ImageSpectrum as TrueSpectrum
from vlmsift.passes.spectrum import ReleasedSpectrum, SpectrumRows
from vlmsift.types import Batch, Measured, Need, Signal


@dataclass(frozen=True)
class ImageSpectrum(Parameters, Signal):
    """Sum of the largest singular values of text rows x image columns of attention, summed over layers: (B,) float32.

    NaN for text-only samples and where no row follows the image. Grows with the rows: longer texts have more. Source:
    XMAS (arXiv 2510.01454), which follows this number over the checkpoints of a small model. Layers are summed
    in float32; the decomposition of the sum is exact, its Gram matrix and eigenvalues in float64, where the released
    code draws a randomised one.

    Attributes:
        attention: "true" = the model's own, mean over heads; "released" = what the released code takes for it: the
            text's keys look at the image's queries, before rotary positions, heads not split, not causal; see
            `passes.spectrum.ReleasedSpectrum`. The two are different numbers, not two precisions of one.
        rows: all "text" after the image begins (the paper), or the "answer" rows, which predict its tokens (ours).
        top: how many singular values are summed.
    """

    attention: Literal["true", "released"] = "true"
    rows: SpectrumRows = "text"
    top: Count = 5

    name = "image_spectrum"
    unit = "summed singular values"
    higher_means = "more text looks at the image, or in more different ways; no direction by itself"
    good = "highest"

    @property
    def needs(self) -> tuple[Need, ...]:
        return (self._need,)

    @property
    def _need(self) -> TrueSpectrum | ReleasedSpectrum:
        return (TrueSpectrum if self.attention == "true" else ReleasedSpectrum)(self.rows, self.top)

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        return measured[self._need]
