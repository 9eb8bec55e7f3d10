"""What the attention of some layers adds, for image and text apart: concepts and skills, for clustering."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta
from torch import Tensor
from torch.nn.functional import normalize

from vlmsift.parameters import Count, Parameters, Seed
from vlmsift.passes.states import AttentionOutputs, projected
from vlmsift.types import Batch, Measured, Need, Signal


@dataclass(frozen=True)
class ConceptStates(Parameters, Signal):
    """Attention outputs of some layers, (B, 2 * layers * D) float32, unit norm.

    Per layer: the mean over image positions and the mean over the text after the image, each through tanh and to unit
    norm. The first half of the vector is the image's, all layers; the second half the text's. The image half of a
    text-only sample is 0, so its text half has all the length; the released code shows it a blank image instead.

    A sample takes 8 * layers * D bytes, on disk and in memory while its pool is clustered: 82 kB where D = 2,048, 8 GB
    for 100,000 samples. Where that is too much, `dimensions` projects them, and then COINCIDE may pick others.

    Source: COINCIDE (arXiv 2406.10995), the features that it clusters; it interleaves the halves, which changes no
    distance, and stores them in half precision.

    Attributes:
        layers: evenly spread; 5 = indices 3, 7, 11, 15, 19 of 24, the released choice.
        dimensions: 0 = all; fewer, an even number, by a seeded Gaussian projection, the same for both halves (ours; it
            distorts cosines by about 1 / sqrt(dimensions)).
        seed: of the projection.
    """

    layers: Count = 5
    dimensions: Annotated[int, Meta(ge=0, multiple_of=2)] = 0
    seed: Seed = 0

    name = "concept_states"
    unit = "unit vector"
    higher_means = "no direction: near vectors are samples of like concepts and skills"

    @property
    def needs(self) -> tuple[Need, ...]:
        return (AttentionOutputs(self.layers),)

    def width(self, hidden_size: int, layers: int) -> int:
        """Length of the stored vector; its first half is the image's."""
        whole = 2 * self.layers * hidden_size
        return min(self.dimensions, whole) if self.dimensions else whole

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        means: Tensor = measured[AttentionOutputs(self.layers)].nan_to_num(0.0)  # no image: zeros stay zeros below
        states = normalize(means.tanh().view(len(batch), 2, self.layers, -1), dim=-1).flatten(2)  # (B, 2, layers * D)
        return normalize(projected(states, self.dimensions // 2, self.seed).flatten(1), dim=1)  # (B, width)
