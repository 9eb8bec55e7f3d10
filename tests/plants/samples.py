"""Samples with pictures of noise, held in memory, and a pool of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.sample_pools import picture
from vlmsift.plants.layout import Layout
from vlmsift.types import IMAGE_MARK, Sample, Turn


def sample(name: str, answer: str = "yes", images: Sequence[bytes] = (), source: str | None = None) -> Sample:
    """One question and its answer."""
    turns = (Turn("user", f"{IMAGE_MARK * len(images)}What is it?"), Turn("assistant", answer))
    return Sample(name, 0, turns, tuple(images), source, {"kept": name})


ANSWERS = ("yes", "no", "3", "12", "a red kite", "A big dog sleeps on the warm stone in front of the house.")


def many(count: int, text_only: Sequence[int] = ()) -> list[Sample]:
    """Samples of two sources whose answers take turns."""
    return [
        sample(f"s{n}", ANSWERS[n % 6], [] if n in text_only else [picture(n)], ("first", "second")[n // 6 % 2])
        for n in range(count)
    ]


class MemoryPool:
    """What the planted pool needs of a pool."""

    path, image_root, format = Path("memory.json"), Path(), "llava"
    source_field = None

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = list(samples)
        self.ids = [one.id for one in samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def source(self, index: int) -> str | None:
        return self.samples[index].source

    def fingerprint(self) -> str:
        return "f" * 64


def layout(count: int, kinds: Sequence[str], **changes: Any) -> Layout:
    """`count` originals with images, then a twin of each for every kind."""
    of = np.tile(np.arange(count), 1 + len(kinds))
    part = np.repeat(np.arange(1 + len(kinds)), count)
    twins = {kind: part == 1 + place for place, kind in enumerate(kinds)}
    facts = {"of": of, "originals": part == 0, "pictured": np.ones(len(of), bool), "twins": twins}
    return Layout(**{**facts, "by_image": frozenset(), **changes})
