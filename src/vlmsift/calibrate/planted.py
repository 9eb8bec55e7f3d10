"""A pool of samples and their spoiled twins. In: the user's pool. Out: an object that `score` takes as a pool.

First the originals, a seeded draw; then, kind by kind, the twins. A twin is made when it is read, in the process that
reads it, so no changed image is held in memory and nothing is written beside the user's data.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vlmsift.calibrate.plants import PLANTS, Stock, check_plants, generator, plain, twin
from vlmsift.errors import SampleError, UsageError
from vlmsift.types import Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vlmsift.pools import Pool

SMALLEST = 20
"""Originals below which no figure would mean anything."""
STOCK = 2000
"""Samples whose answers and images may be borrowed."""
VERSION = 1
"""Of the twins: to be raised when a plant is made differently, so that an old run is not taken up again."""


@dataclass(frozen=True, slots=True)
class PlantedRow:
    """One row: its id, the place of its original among the originals, and the plant; None for the original itself."""

    id: str
    of: int
    kind: str | None = None


class Planted:
    """The planted pool; what `scoring.feed.Feed` and `score` need of a pool, and what each row is.

    Args:
        pool: the user's pool.
        sample: originals to draw.
        twins: largest number of twins of one kind.
        plants: kinds to plant; None = all.
        seed: of the draw and of every twin.

    Attributes:
        originals: the drawn samples as they are.
        entries: what each row is, originals first.
        left_out: sentences on what could not be planted.

    Raises:
        UsageError: an unknown plant, or fewer than 20 usable samples.
    """

    def __init__(
        self, pool: Pool, *, sample: int = 400, twins: int = 150, plants: Sequence[str] | None = None, seed: int = 0
    ) -> None:
        self.kinds = check_plants(plants)
        if sample < SMALLEST:
            raise UsageError(f"sample={sample} is too small to calibrate on; draw at least {SMALLEST}")
        if twins < 1:
            raise UsageError(f"twins={twins} must be at least 1")
        self.pool, self.seed, self.version = pool, seed, VERSION
        self.path: Path = pool.path
        self.image_root: Path = pool.image_root
        self.format, self.source_field = pool.format, pool.source_field
        stock = _draw(pool, max(sample, STOCK), seed)
        self.originals = stock[:sample]
        if len(self.originals) < SMALLEST:
            raise UsageError(
                f"{pool.path} has {len(self.originals)} usable samples; calibration needs at least {SMALLEST}"
            )
        self.stock = Stock(stock, pool.image_root)
        self.left_out: list[str] = []
        self.entries = [PlantedRow(one.id, place) for place, one in enumerate(self.originals)]
        self.text_only = sum(not one.images for one in self.originals)
        for kind in self.kinds:
            self._plant(kind, twins)
        if len(self.entries) == len(self.originals):
            raise UsageError(f"nothing could be planted in {pool.path}: {' '.join(self.left_out)}")
        self.ids = [entry.id for entry in self.entries]

    def _plant(self, kind: str, twins: int) -> None:
        """Up to `twins` rows of this kind, from originals in an order drawn from their ids."""
        fitting = [place for place, one in enumerate(self.originals) if self._fits(kind, one)]
        if PLANTS[kind].images and self.text_only:
            self.left_out.append(f"{kind}: {self.text_only} text-only samples have no such twin.")
        if not fitting:
            self.left_out.append(f"{kind}: left out, it can be made of none of the {len(self.originals)} samples.")
            return
        drawn = sorted(
            fitting, key=lambda place: generator(self.originals[place].id, f"draw {kind}", self.seed).random()
        )
        taken = {entry.id for entry in self.entries}
        for place in sorted(drawn[:twins]):
            name = f"{self.originals[place].id}~{kind}"
            while name in taken:  # a user's id may look like ours
                name += "~"
            self.entries.append(PlantedRow(name, place, kind))

    def _fits(self, kind: str, sample: Sample) -> bool:
        """Whether a twin of this kind is likely to be made; what the pixels say is seen only when it is read."""
        if PLANTS[kind].images and not sample.images:
            return False
        if kind == "wrong_answer":
            answers = {plain(donor.answer) for donor in self.stock.by_kind.get((None, None), ())}
            return bool(plain(sample.answer)) and len(answers) > 1
        if kind == "wrong_image":
            return len(self.stock.donors) > 1
        return kind != "trigger_patch" or plain(sample.answer) not in ("", plain(self.stock.target))

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        """Row `index`. Raises SampleError ("no twin: ...") where the twin cannot be made of its original."""
        entry = self.entries[index]
        made = self.originals[entry.of]
        if entry.kind is not None:
            made = twin(made, entry.kind, self.stock, self.seed)
        return replace(made, id=entry.id, index=index)

    def source(self, index: int) -> str | None:
        """The original's source."""
        return self.originals[self.entries[index].of].source

    def counts(self) -> dict[str, int]:
        """Planned twins of each kind."""
        return dict(Counter(entry.kind for entry in self.entries if entry.kind is not None))

    def fingerprint(self) -> str:
        """sha256 (hex) of the user's pool and of all that decides the rows drawn and planted."""
        facts = [self.version, self.pool.fingerprint(), self.seed, len(self.stock.samples), self.ids]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _draw(pool: Pool, count: int, seed: int) -> tuple[Sample, ...]:
    """The first `count` readable samples with an answer, in an order that the seed draws from the pool's rows."""
    found: list[Sample] = []
    for index in np.random.default_rng(seed).permutation(len(pool)).tolist():
        if len(found) == count:
            break
        try:
            sample = pool[index]
        except SampleError:
            continue
        if plain(sample.answer):
            found.append(sample)
    return tuple(found)
