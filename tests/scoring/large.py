"""A feed of large tensors, without a model; and patience."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from vlmsift.models import Encoded, Prepare
from vlmsift.scoring.feed import Feed
from vlmsift.types import Sample, Turn


class LargePool:
    """Rows that are their numbers."""

    ids = tuple(f"r{index}" for index in range(100))

    def source(self, index: int) -> None:
        return None

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.ids[index], index, (Turn("user", "q"), Turn("assistant", "a")), (), None, {})


@dataclass
class LargeEncoder:
    """A float32 image of `size` bytes, random, the same whenever it is asked for."""

    size: int

    def encode(self, sample: Sample) -> Encoded:
        tokens = torch.arange(5 + sample.index)
        draw = torch.Generator().manual_seed(sample.index)
        images = {"pixels": torch.randn(self.size // 32, 8, generator=draw), "sizes": torch.tensor([sample.index])}
        return Encoded(sample.id, tokens, tokens, tokens, {}, images)


def feed(workers: int, size: int, dtype: torch.dtype | None = None, count: int = 100, **how: Any) -> Feed:
    """A feed of `count` samples."""
    pool: Any = LargePool()
    encoder: Any = LargeEncoder(size)
    return Feed(pool, encoder, range(count), workers, Prepare(dtype) if dtype else None, **how)


def wait_for(condition: Callable[[], bool], seconds: float = 2) -> bool:
    """Whether it comes true in that time."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)
    return condition()
