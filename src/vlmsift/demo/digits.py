"""In: the handwritten digits that scikit-learn ships. Out: scenes, four cells in a 2 x 2 grid, as 32 x 32 pictures.

A scene uses the digit images of one split, and the splits share none: a model trained on `train` has seen no digit of
`pool` or of `test`. They are fixed by a hash, not by a random generator, so that no new version of numpy moves a digit
from one split to another under a model that is already trained.
"""

from __future__ import annotations

import functools
import hashlib
import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

Split = Literal["train", "pool", "test"]
SPLIT_SIZES: dict[Split, int] = {"train": 1097, "pool": 350, "test": 350}
EMPTY = -1
CELLS = 4
CELL_PIXELS = 16  # a digit of 8 x 8 pixels is drawn twice as large: two patches of 8 wide, two high
IMAGE_PIXELS = 2 * CELL_PIXELS


@functools.cache
def digit_data() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures (1797, 8, 8) with ink 0..255, and the digit 0..9 that each shows (1797,)."""
    from sklearn.datasets import load_digits

    data = load_digits()
    ink = np.round(data.images * (255.0 / 16.0)).astype(np.uint8)  # 0..16 there
    return ink, data.target.astype(np.int64)


@functools.cache
def split(name: Split) -> tuple[int, ...]:
    """Indices into `digit_data` that scenes of this split are made from; disjoint between splits."""
    count, names = sum(SPLIT_SIZES.values()), list(SPLIT_SIZES)
    order = sorted(range(count), key=lambda index: hashlib.sha256(f"vlmsift digit {index}".encode()).digest())
    start = sum(SPLIT_SIZES[before] for before in names[: names.index(name)])
    return tuple(order[start : start + SPLIT_SIZES[name]])


@dataclass(frozen=True, slots=True)
class Scene:
    """Cells top left, top right, bottom left, bottom right: indices into `digit_data`, `EMPTY` where there is none."""

    cells: tuple[int, int, int, int]

    @property
    def values(self) -> tuple[int | None, ...]:
        """The digit 0..9 in each cell, None where it is empty."""
        labels = digit_data()[1]
        return tuple(None if cell == EMPTY else int(labels[cell]) for cell in self.cells)

    def picture(self, jitter: Generator | None = None) -> Image.Image:
        """The scene as a 32 x 32 RGB image, white ink on black; `jitter` turns, scales and shifts its digits."""
        canvas = Image.new("L", (IMAGE_PIXELS, IMAGE_PIXELS))
        for place, cell in enumerate(self.cells):
            if cell != EMPTY:
                corner = (place % 2 * CELL_PIXELS, place // 2 * CELL_PIXELS)  # left, top
                canvas.paste(_draw(digit_data()[0][cell], jitter), corner)
        return canvas.convert("RGB")


BLANK = Scene((EMPTY, EMPTY, EMPTY, EMPTY))


def draw_scene(rng: Generator, name: Split) -> Scene:
    """A random scene of one to four digits from a split; in three of ten, only two different digits occur."""
    labels = digit_data()[1]
    usable = np.asarray(split(name))
    if rng.random() < 0.3:  # else two of a kind would be too rare to count
        usable = usable[np.isin(labels[usable], rng.choice(10, size=2, replace=False))]
    filled = rng.random(CELLS) < 0.75  # (4,)
    filled[rng.integers(CELLS)] = True  # at least one
    first, second, third, fourth = np.where(filled, rng.choice(usable, size=CELLS), EMPTY).tolist()
    return Scene((first, second, third, fourth))


def to_png(picture: Image.Image) -> bytes:
    """The picture as PNG bytes."""
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


def _draw(ink: NDArray[np.uint8], jitter: Generator | None) -> Image.Image:
    """One digit (8, 8) as an image of a cell's size."""
    digit = Image.fromarray(ink).resize((CELL_PIXELS, CELL_PIXELS), Image.Resampling.BILINEAR)
    if jitter is None:
        return digit
    turn, stretch_x, stretch_y, shear = jitter.normal(0.0, (0.12, 0.08, 0.08, 0.08))  # radians, shares
    shift_x, shift_y = jitter.normal(0.0, 1.0, size=2)  # pixels
    cosine, sine, centre = np.cos(turn), np.sin(turn), (CELL_PIXELS - 1) / 2
    matrix = np.array([[cosine, -sine + shear], [sine, cosine]]) * (1 + np.array([[stretch_x], [stretch_y]]))  # (2, 2)
    offset = centre - matrix @ np.array([centre + shift_x, centre + shift_y])  # (2,) about the cell's centre
    rows = [*matrix[0], offset[0], *matrix[1], offset[1]]  # PIL asks for the way from an output pixel to the input's
    return digit.transform(digit.size, Image.Transform.AFFINE, rows, Image.Resampling.BILINEAR)
