"""A pool of samples and their spoiled twins. In: the user's pool. Out: an object that `score` takes as a pool.

First the originals, a seeded draw; then, kind by kind, the twins. A twin is made when it is read, in the process that
reads it, so no changed image is held in memory and nothing is written beside the user's data.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from vlmsift.errors import SampleError, UsageError
from vlmsift.plants.kinds import PLANTS, Stock, check_plants, generator, plain, twin
from vlmsift.pools import Pool
from vlmsift.types import Sample

SMALLEST = 20  # originals below which no figure would mean anything
STOCK = 2000  # samples whose answers and images may be borrowed
VERSION = 1  # of the twins: raised when a plant is made differently, so that an old run is not taken up again


@dataclass(frozen=True, slots=True)
class PlantedRow:
    """What one row is."""

    id: str
    of: int  # the place of its original among the originals
    kind: str | None = None  # the plant; None for the original itself


class Planted:
    """The planted pool; what `scoring.feed.Feed` and `score` need of a pool, and what each row is.

    Args:
        pool: the user's. sample: originals to draw. twins: of one kind, at most. plants: kinds to plant; None = all.
        seed: of the draw and of every twin.

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
        self.path, self.image_root = pool.path, pool.image_root
        self.format, self.source_field = pool.format, pool.source_field
        stock = _draw(pool, max(sample, STOCK), seed)
        self.originals, self.stock = stock[:sample], Stock(stock, pool.image_root)  # twins borrow beyond the draw
        if (count := len(self.originals)) < SMALLEST:
            raise UsageError(f"{pool.path} has {count} usable samples; plants need at least {SMALLEST}")
        self.left_out: list[str] = []  # sentences on what could not be planted
        self.entries = [PlantedRow(one.id, place) for place, one in enumerate(self.originals)]  # what each row is
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
        luck = {place: generator(self.originals[place].id, f"draw {kind}", self.seed).random() for place in fitting}
        taken = {entry.id for entry in self.entries}
        for place in sorted(sorted(fitting, key=luck.__getitem__)[:twins]):
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
        own = self.originals[entry.of]
        made = own if entry.kind is None else twin(own, entry.kind, self.stock, self.seed)
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
        with suppress(SampleError):
            if plain((sample := pool[index]).answer):
                found.append(sample)
    return tuple(found)
