"""How widely the first step of the answer looks over the image, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vlmsift.parameters import Parameters
from vlmsift.passes.entropy import EntropyProfile as Profile
from vlmsift.types import Batch, Measured, Need, Signal


@dataclass(frozen=True)
class EntropyProfile(Parameters, Signal):
    """Entropy of the first decoding row's attention over the image tokens, (B, L) float32 nats.

    All of it is NaN for text-only samples; a layer is NaN where the row sees no image token (sliding windows).
    Source: BYE (arXiv 2505.16916), eq. 4 and 5: mean over heads, renormalised over the image as in its released code,
    which also adds 1e-8 inside the logarithm; that is left out. Several images count as one, and of several answers the
    first in sight of an image is taken; both ours.

    Attributes:
        normalise: divide by the log of the image tokens in sight; ours. Without it the numbers are raw nats, whose
            maximum grows with the image, so that where images differ in size a histogram falls in two by size, which
            `mixture` takes for a sensitive layer; with it images of different size compare.
    """

    normalise: bool = False

    name = "entropy_profile"
    higher_means = "the look is spread over the image; very low: one spot, maybe a trigger, holds it"

    @property
    def unit(self) -> str:
        return "share of the maximum" if self.normalise else "nats"

    @property
    def needs(self) -> tuple[Need, ...]:
        return (Profile(self.normalise),)

    def width(self, hidden_size: int, layers: int) -> int:
        return layers

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        return measured[Profile(self.normalise)]
