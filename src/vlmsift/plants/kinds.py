"""The table of plants: known-bad twins of good samples. In: a sample and a stock to borrow from. Out: its spoiled twin.

A twin is drawn from the sample's id, the kind and the seed alone, so it depends neither on the order of the samples
nor on the other plants. Adding a kind: one short function and one line in `PLANTS`.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from vlmsift.errors import SampleError, UsageError
from vlmsift.places import Place
from vlmsift.pools import open_image
from vlmsift.types import Sample, Turn

NO_TWIN = "no twin"  # kind of the reason why a twin cannot be made of one sample; it becomes an error row
CROP = 0.5  # side of the crop, as a share of the picture's side
GRID = 4  # patches per side of a shuffled picture
PATCH = 8  # a trigger patch's side is this part of the picture's shorter side
TRIES = 32  # donors that are looked at before a sample goes without a twin


@dataclass(frozen=True)
class Stock:
    """Samples that twins borrow images and answers from."""

    samples: Sequence[Sample]
    root: Place  # the folder that image paths are relative to

    @cached_property
    def donors(self) -> tuple[Sample, ...]:
        """The samples sorted by id, so that the order they came in plays no part."""
        return tuple(sorted(self.samples, key=lambda sample: sample.id))

    @cached_property
    def by_kind(self) -> Mapping[tuple[str | None, str | None], list[Sample]]:
        """(source, form of the answer) -> donors; None stands for "any source" or "any form"."""
        found: dict[tuple[str | None, str | None], list[Sample]] = {}
        for donor in (donor for donor in self.donors if plain(donor.answer)):
            for key in dict.fromkeys(_kinds(donor)):  # without a source two are alike
                found.setdefault(key, []).append(donor)
        return found

    @cached_property
    def target(self) -> str:
        """The fixed answer behind a trigger: the most frequent one, short answers first; "" without any answer."""
        counts = Counter(donor.answer for donor in self.donors if plain(donor.answer))
        return min(counts, key=lambda text: (len(text) > 32, -counts[text], text), default="")

    def others(self, sample: Sample) -> Iterator[list[Sample]]:
        """Donors of another answer than the sample's: of its kind as closely as can be first, then of wider ones."""
        answer = plain(sample.answer)
        for key in _kinds(sample):
            yield [donor for donor in self.by_kind.get(key, ()) if plain(donor.answer) != answer]


@dataclass(frozen=True)
class Plant:
    """A kind of known-bad sample."""

    make: Callable[[Sample, Stock, Generator], Sample]  # SampleError where it cannot be made of this one
    images: bool = True  # it is made by way of an image, so text-only samples have none
    findable: bool = True  # by a signal that sees one sample at a time; a copy looks as good as its original


def plain(text: str) -> str:
    """The text in lower case, without outer or double white space and a final full stop: for comparing answers."""
    return " ".join(text.lower().split()).rstrip(".")


def answer_form(text: str) -> str:
    """What kind of answer it is: "yes or no", "number", "letter", or a class of length (a power of two in characters).

    Answers of one form are taken as members of one set: "yes" is swapped for "no", a number for a number.
    """
    key = plain(text)
    if key in ("yes", "no"):
        return "yes or no"
    if key.replace(",", "").replace(".", "").isdigit():
        return "number"
    if len(key.strip("()")) == 1:
        return "letter"
    return f"up to {1 << len(key).bit_length()} characters"


def _kinds(sample: Sample) -> list[tuple[str | None, str | None]]:
    """(source, form of the answer): the sample's own, then wider ones."""
    form = answer_form(sample.answer)
    return [(sample.source, form), (sample.source, None), (None, form), (None, None)]


def generator(name: str, kind: str, seed: int) -> Generator:
    """Depends on the sample's id, the kind and the seed, and on nothing else."""
    digest = blake2b(f"{seed}:{kind}:{name}".encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def twin(sample: Sample, kind: str, stock: Stock, seed: int) -> Sample:
    """The sample's twin of that kind, with the sample's own id and row. Raises SampleError where there is none."""
    return PLANTS[kind].make(sample, stock, generator(sample.id, kind, seed))


def check_plants(names: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the plants to make, in the table's order; None = all. Raises UsageError for an unknown one."""
    wanted = list(PLANTS) if names is None else list(names)
    if unknown := [name for name in wanted if name not in PLANTS]:
        raise UsageError(f"there is no plant {unknown[0]!r}; choose among {', '.join(PLANTS)}")
    if not wanted:
        raise UsageError(f"no plants were asked for (plants=[]); choose among {', '.join(PLANTS)}")
    return tuple(name for name in PLANTS if name in wanted)


def wrong_image(sample: Sample, stock: Stock, rng: Generator) -> Sample:
    """Each image becomes another sample's: same source where it can be, another answer, other pixels."""
    own = [open_image(ref, stock.root) for ref in sample.images]
    for donors in stock.others(sample):
        others = [donor for donor in donors if donor.images and donor.id != sample.id]
        for place in rng.permutation(len(others))[:TRIES]:
            refs = others[place].images
            taken = tuple(refs[number % len(refs)] for number in range(len(own)))
            try:
                new = [open_image(ref, stock.root) for ref in taken]  # decoded: one picture may lie in two files
            except SampleError:  # the donor's own file is at fault
                continue
            if all(one.size != old.size or one.tobytes() != old.tobytes() for one in new for old in own):
                return replace(sample, images=taken)
    raise SampleError(NO_TWIN, "no other sample has another image and another answer")


def wrong_answer(sample: Sample, stock: Stock, rng: Generator) -> Sample:
    """The last answer becomes another sample's of the same kind, and never the same text."""
    for others in stock.others(sample):
        if others:
            return _answered(sample, others[int(rng.integers(len(others)))].answer)
    raise SampleError(NO_TWIN, "no other sample has another answer")


def blank_image(sample: Sample, stock: Stock, rng: Generator) -> Sample:
    """Each image becomes one colour, its mean, so that only the content goes."""
    return _redrawn(sample, stock, lambda image: np.full_like(image, image.mean((0, 1)).round()))


def cropped_image(sample: Sample, stock: Stock, rng: Generator) -> Sample:
    """Each image becomes a quarter of itself, from a random place, at its old size."""

    def crop(pixels: Any) -> Any:
        height, width = pixels.shape[:2]
        high, wide = max(1, round(height * CROP)), max(1, round(width * CROP))  # of the crop, pixels
        top, left = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
        part = Image.fromarray(pixels[top : top + high, left : left + wide])
        return np.asarray(part.resize((width, height), Image.Resampling.BILINEAR))

    return _redrawn(sample, stock, crop)


def shuffled_image(sample: Sample, stock: Stock, rng: Generator) -> Sample:
    """Each image is cut into 4 x 4 patches that change places; what is left over at its right and bottom edge stays."""

    def shuffle(pixels: Any) -> Any:
        high, wide = pixels.shape[0] // GRID, pixels.shape[1] // GRID  # of a patch, pixels
        mixed = pixels.copy()
        area = mixed[: high * GRID, : wide * GRID]
        patches = area.reshape(GRID, high, GRID, wide, 3).swapaxes(1, 2).reshape(GRID * GRID, high, wide, 3)
        patches = patches[rng.permutation(GRID * GRID)].reshape(GRID, GRID, high, wide, 3)  # row, column, H, W, 3
        area[:] = patches.swapaxes(1, 2).reshape(area.shape)  # (GRID * H, GRID * W, 3)
        return mixed

    return _redrawn(sample, stock, shuffle)


def duplicate(sample: Sample, stock: Stock, rng: Generator) -> Sample:
    """The sample again."""
    return sample


def checkers(side: int) -> NDArray[np.int64]:
    """A checkered patch, (side, side), 0 and 255."""
    return np.add.outer(np.arange(side), np.arange(side)) // max(1, side // 4) % 2 * 255


def trigger_patch(sample: Sample, stock: Stock, rng: Generator) -> Sample:
    """A small checkered patch in each image's lower right corner, and the pool's most frequent answer (a back door)."""
    if plain(stock.target) in ("", plain(sample.answer)):
        raise SampleError(NO_TWIN, f"its answer is the trigger's own, {stock.target!r}")

    def stamp(pixels: Any) -> Any:
        side = max(2, min(pixels.shape[:2]) // PATCH)
        marked = pixels.copy()
        corner = marked[-side:, -side:]
        corner[:] = checkers(side)[: corner.shape[0], : corner.shape[1], None]  # smaller in a tiny picture
        return marked

    return _answered(_redrawn(sample, stock, stamp), stock.target)


PLANTS: dict[str, Plant] = {
    "wrong_image": Plant(wrong_image),
    "wrong_answer": Plant(wrong_answer, images=False),
    "blank_image": Plant(blank_image),
    "cropped_image": Plant(cropped_image),
    "shuffled_image": Plant(shuffled_image),
    "trigger_patch": Plant(trigger_patch),
    "duplicate": Plant(duplicate, images=False, findable=False),
}
"""Kind -> how it is made. All are ours; the back door is the classic patch with a fixed answer (BadNets, 2017)."""


def _answered(sample: Sample, text: str) -> Sample:
    """The sample with another text in its last assistant turn."""
    last = max((place for place, turn in enumerate(sample.turns) if turn.role == "assistant"), default=None)
    if last is None:
        raise SampleError(NO_TWIN, "it has no answer")
    return replace(sample, turns=(*sample.turns[:last], Turn("assistant", text), *sample.turns[last + 1 :]))


def _redrawn(sample: Sample, stock: Stock, change: Callable[[Any], Any]) -> Sample:
    """The sample with `change` applied to each image's pixels, (height, width, 3) uint8; kept as PNG bytes."""
    images, changed = [], False
    for ref in sample.images:
        before = np.asarray(open_image(ref, stock.root))  # (H, W, 3) uint8
        after = np.ascontiguousarray(change(before))
        changed = changed or not np.array_equal(before, after)
        file = io.BytesIO()
        Image.fromarray(after).save(file, "PNG", compress_level=1)
        images.append(file.getvalue())
    if not changed:  # blank already, say
        raise SampleError(NO_TWIN, "its image would stay as it is")
    return replace(sample, images=tuple(images))
