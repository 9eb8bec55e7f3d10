"""A clean pool in which every original has near copies. In: a size and a seed. Out: a folder, like that of a demo pool.

pool.json      LLaVA rows, all right, shuffled; an id is ORIGINAL-COPY, so that it tells the group
images/*.png   the original's picture as copy 0; the others are shifted, brighter or darker, and noisy
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from vlmsift.demo.digits import Scene, to_png
from vlmsift.demo.questions import QUESTIONS, Question, draw
from vlmsift.files import write_atomically

FARTHEST = 2
"""Pixels of 32 that a copy is moved by, at most, each way."""
BRIGHTNESS = 0.15
NOISE = 4.0
"""Standard deviation, of 255."""


def make_redundant(folder: Path, size: int, copies: int, seed: int) -> Path:
    """Write `size // copies` originals with as many `copies` each, the original itself counted. Returns `pool.json`."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for original, (scene, question) in enumerate(_originals(rng, size // copies)):
        answer = question.answer(scene.values)
        for copy in range(copies):
            name = f"{original:04d}-{copy}"
            picture = scene.picture() if copy == 0 else near_copy(scene.picture(), rng)
            (folder / "images" / f"{name}.png").write_bytes(to_png(picture))
            turns = [("human", f"<image>\n{_reworded(question, rng)}"), ("gpt", answer)]
            said = [{"from": role, "value": text} for role, text in turns]
            rows.append({"id": name, "source": question.task, "image": f"images/{name}.png", "conversations": said})
    path = folder / "pool.json"
    text = json.dumps([rows[place] for place in rng.permutation(len(rows))], indent=1) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text))
    return path


def near_copy(picture: Image.Image, rng: Generator) -> Image.Image:
    """The picture moved by one or two pixels, a little brighter or darker, with a little noise."""
    moves = [(down, right) for down in range(-FARTHEST, FARTHEST + 1) for right in range(-FARTHEST, FARTHEST + 1)]
    moves.remove((0, 0))
    down, right = moves[rng.integers(len(moves))]
    pixels = _moved(np.asarray(picture, np.float64), down, right)
    pixels = pixels * rng.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS) + rng.normal(0, NOISE, pixels.shape)
    return Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))


def _moved(pixels: NDArray[np.float64], down: int, right: int) -> NDArray[np.float64]:
    """(H, W, 3) moved by so many pixels, black where nothing was."""
    moved, (height, width) = np.zeros_like(pixels), pixels.shape[:2]
    rows, columns = (slice(max(by, 0), size + min(by, 0)) for by, size in ((down, height), (right, width)))
    from_rows, from_columns = (slice(max(-by, 0), size - max(by, 0)) for by, size in ((down, height), (right, width)))
    moved[rows, columns] = pixels[from_rows, from_columns]
    return moved


def group(name: str) -> str:
    """The original that the sample of this id shows."""
    return name.partition("-")[0]


def _originals(rng: Generator, count: int) -> list[tuple[Scene, Question]]:
    """Scenes of the pool's digits, no two the same."""
    found: dict[Scene, Question] = {}
    while len(found) < count:
        scene, question = draw(rng, "pool")
        found.setdefault(scene, question)
    return list(found.items())


def _reworded(question: Question, rng: Generator) -> str:
    """The same question in one of its wordings."""
    same = [one.text for one in QUESTIONS if (one.task, one.about) == (question.task, question.about)]
    return same[rng.integers(len(same))]


def one_per_group(pool: Path, seed: int) -> list[str]:
    """One sample of each original, drawn at random: the most varied fifth that there is, for five copies each."""
    names = [row["id"] for row in json.loads(pool.read_text())]
    order = np.random.default_rng(seed).permutation(len(names))
    return list({group(names[place]): names[place] for place in order}.values())
