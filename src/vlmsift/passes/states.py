"""States as vectors beside `hidden.py`'s mean: what the attention adds (COINCIDE), and the last position (SemDeDup)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from vlmsift.models import Adapter
from vlmsift.passes.needs import Watch, Watcher
from vlmsift.passes.outputs import projection
from vlmsift.types import Batch


@dataclass(frozen=True, slots=True)
class AttentionOutputs(Watch):
    """Output of the attention's output projection, mean over image and over text positions: (B, 2 * layers * D).

    The image means of all layers come first, then the text means. Source: COINCIDE, arXiv 2406.10995. Text is what
    follows the (first) image, see `text_after_image`: question, answer and template, but no system prompt, which would
    make all text means nearly equal. Image means of a text-only sample are NaN, its text means are over all it has.

    Attributes:
        layers: how many, evenly spread: the layers that end (i + 1) / (layers + 1) of the way, rounded up. 5 of 24 are
            3, 7, 11, 15, 19, the released choice. A model of few layers gives some of them twice.
    """

    layers: int = 5

    def chosen(self, depth: int) -> tuple[int, ...]:
        """The layers' indices in a decoder of L = `depth` layers."""
        return tuple(math.ceil((index + 1) * depth / (self.layers + 1)) - 1 for index in range(self.layers))

    def watcher(self, adapter: Adapter, batch: Batch) -> Watcher:
        return _AttentionOutputs(self.chosen(adapter.depth), adapter, batch)


class _AttentionOutputs(Watcher):
    def __init__(self, chosen: tuple[int, ...], adapter: Adapter, batch: Batch) -> None:
        self.chosen, self.batch = chosen, batch
        self.modules: dict[int, nn.Module] = {layer: projection(adapter, layer, "o_proj") for layer in chosen}
        self.means: dict[int, tuple[Tensor, Tensor]] = {}  # layer -> (B, D) of the image, (B, D) of the text

    def take(self, key: int, output: Tensor) -> None:
        image, text = self.batch.image_mask, text_after_image(self.batch)  # (B, T) each
        states = output.to(image.device).float()  # (B, T, D)
        self.means[key] = _means(states, image), _means(states, text)

    def result(self) -> Tensor:
        return torch.cat([self.means[layer][half] for half in (0, 1) for layer in self.chosen], 1)  # image, then text


def text_after_image(batch: Batch) -> Tensor:
    """(B, T) bool: text after the end of the sample's first image, later images left out; all text where none is."""
    first = (batch.image_index == 0).int()  # (B, T)
    ahead = first.flip(1).cumsum(1).flip(1) > 0  # a position of the first image is here or still to come
    return batch.valid & ~batch.image_mask & ~ahead


def _means(states: Tensor, inside: Tensor) -> Tensor:
    """(B, T, D) -> (B, D): the mean of the positions inside; NaN where there is none."""
    kept = states.masked_fill(~inside[..., None], 0)  # what stands elsewhere may be no number
    return torch.bmm(inside[:, None].float(), kept)[:, 0] / inside.sum(1, keepdim=True)


@dataclass(frozen=True, slots=True)
class LastState(Watch):
    """State after the final norm at the sample's last position that is not padding: (B, D) float32."""

    def watcher(self, adapter: Adapter, batch: Batch) -> Watcher:
        return _LastState(adapter, batch)


class _LastState(Watcher):
    def __init__(self, adapter: Adapter, batch: Batch) -> None:
        self.modules: dict[str, nn.Module] = {"final norm": adapter.norm}
        length = batch.valid.shape[1]
        self.last = (batch.valid * torch.arange(length, device=batch.valid.device)).argmax(1)  # (B,)
        self.states = torch.empty(0)

    def take(self, key: str, output: Tensor) -> None:
        last = self.last.to(output.device)
        self.states = output[torch.arange(len(last), device=output.device), last].float().to(self.last.device)

    def result(self) -> Tensor:
        return self.states  # (B, D)


def projected(states: Tensor, dimensions: int, seed: int) -> Tensor:
    """(..., D) -> (..., `dimensions`) by `gaussian`; as they are where D is not larger, or `dimensions` is 0."""
    if not 0 < dimensions < states.shape[-1]:
        return states
    return states @ gaussian(states.shape[-1], dimensions, seed)


@lru_cache(maxsize=4)
def gaussian(wide: int, narrow: int, seed: int) -> Tensor:
    """(wide, narrow) float32: a seeded random projection that keeps lengths and angles roughly."""
    return torch.randn(wide, narrow, generator=torch.Generator().manual_seed(seed)) / math.sqrt(narrow)
