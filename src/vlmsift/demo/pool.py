"""In: a size and a seed. Out: a folder with a pool in LLaVA format, a known part of it spoiled, and the truth.

    pool.json       what a user would have: id, source, image, conversations
    images/*.png    one picture per sample
    truth.jsonl     what a user would not have, a line per sample in the pool's order: its `kind`, the sample it was
                    made `of`, the digits `shown` in its picture, and the answer that is `right` for that picture

Ids and file names are positions in a shuffled order, so that neither says which samples are spoiled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.random import Generator

from vlmsift.demo.digits import BLANK, Scene, to_png
from vlmsift.demo.questions import Question, draw
from vlmsift.errors import UsageError
from vlmsift.files import replacing
from vlmsift.types import IMAGE_MARK

Kind = Literal["clean", "wrong_image", "wrong_answer", "blank_image", "duplicate"]
SPOILED: tuple[Kind, ...] = get_args(Kind)[1:]
CONTENT = {"images", "pool.json", "truth.jsonl"}
SMALLEST = 20
MOST_SPOILED = 0.8


@dataclass(slots=True)
class _Entry:
    """A sample in the making."""

    scene: Scene  # what its picture shows
    question: Question
    answer: str
    kind: Kind = "clean"
    of: _Entry | None = None  # what it was made from
    id: str = ""


def make_pool(out: Path, size: int = 3000, seed: int = 0, spoiled: float = 0.5) -> Path:
    """Write a pool of `size` samples, the same bytes for the same arguments, and return the path of `pool.json`.

    Args:
        out: the folder to write; a demo pool that already stands there is replaced. size: samples, at least 20.
        spoiled: share of bad samples, 0 to 0.8, in equal parts of the four kinds. A duplicate is one, what it copies
            is not.

    Raises:
        UsageError: an argument out of its range, or `out` holds something other than a demo pool.
    """
    if size < SMALLEST:
        raise UsageError(f"a demo pool of {size} samples is too small to spoil; ask for at least {SMALLEST}")
    if not 0 <= spoiled <= MOST_SPOILED:
        raise UsageError(f"the spoiled share {spoiled} is out of range; choose one from 0 to {MOST_SPOILED}")
    out = Path(out)
    if out.exists() and not _is_ours(out):
        raise UsageError(f"{str(out)!r} exists and is not a demo pool; name a new or empty folder")
    entries = _compose(np.random.default_rng(seed), size, round(size * spoiled))
    with replacing(out, CONTENT.__contains__, sync=False) as aside:  # what a crash costs can be made again
        aside.mkdir()
        _write(aside, entries)
    return out / "pool.json"


def read_truth(out: Path) -> dict[str, dict[str, Any]]:
    """The lines of `truth.jsonl` in a pool's folder, by sample id, in the pool's order."""
    lines = (Path(out) / "truth.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def _compose(rng: Generator, size: int, spoiled: int) -> list[_Entry]:
    """The entries in their final order, ids given."""
    parts = {kind: spoiled // 4 + (place < spoiled % 4) for place, kind in enumerate(SPOILED)}
    entries = _draw_entries(rng, size - parts["duplicate"])
    answers: dict[str, list[str]] = {}  # task -> its answers, as often as they are given
    for entry in entries:
        answers.setdefault(entry.question.task, []).append(entry.answer)
    # A blank picture is wrong only where the answer is not also right for an empty scene ("no", "0", "none").
    blankable = [entry for entry in entries if entry.question.answer(BLANK.values) != entry.answer]
    for entry in blankable[: parts["blank_image"]]:
        entry.scene, entry.kind = BLANK, "blank_image"
    rest = [entry for entry in entries if entry.kind == "clean"]
    for entry in rest[: parts["wrong_answer"]]:
        entry.answer = _pick(rng, [answer for answer in answers[entry.question.task] if answer != entry.answer])
        entry.kind = "wrong_answer"
    rest = rest[parts["wrong_answer"] :]
    moved, clean = rest[: parts["wrong_image"]], rest[parts["wrong_image"] :]
    for entry in moved:
        donor = _pick(rng, [other for other in clean if entry.question.answer(other.scene.values) != entry.answer])
        entry.scene, entry.kind, entry.of = donor.scene, "wrong_image", donor
    originals = [_pick(rng, clean) for _ in range(parts["duplicate"])]
    entries += [replace(original, kind="duplicate", of=original) for original in originals]
    shuffled = [entries[place] for place in rng.permutation(len(entries))]
    for place, entry in enumerate(shuffled):
        entry.id = f"{place:06d}"
    return shuffled


def _draw_entries(rng: Generator, count: int) -> list[_Entry]:
    """Clean entries; no two show the same scene, so that the only duplicates are the planted ones."""
    entries: list[_Entry] = []
    seen: set[Scene] = set()
    while len(entries) < count:
        scene, question = draw(rng, "pool")
        if scene not in seen:
            seen.add(scene)
            entries.append(_Entry(scene, question, question.answer(scene.values)))
    return entries


def _pick(rng: Generator, options: list[Any]) -> Any:
    if not options:
        raise UsageError("the pool is too small to spoil as asked; make it larger or spoil a smaller share")
    return options[rng.integers(len(options))]


def _is_ours(out: Path) -> bool:
    """Whether a path is an empty folder or holds just what `make_pool` writes."""
    return out.is_dir() and {entry.name for entry in out.iterdir()} in (set(), CONTENT)


def _write(folder: Path, entries: list[_Entry]) -> None:
    (folder / "images").mkdir()
    rows, truth = [], []
    for entry in entries:
        image = f"images/{entry.id}.png"
        (folder / image).write_bytes(to_png(entry.scene.picture()))
        turns = [("human", f"{IMAGE_MARK}\n{entry.question.text}"), ("gpt", entry.answer)]
        conversations = [{"from": role, "value": text} for role, text in turns]
        rows.append({"id": entry.id, "source": entry.question.task, "image": image, "conversations": conversations})
        shown, of = entry.scene.values, entry.of.id if entry.of else None
        right = entry.question.answer(shown)
        truth.append({"id": entry.id, "kind": entry.kind, "of": of, "shown": shown, "right": right})
    (folder / "pool.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (folder / "truth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in truth), encoding="utf-8")
