"""Pools of digits that call for different rules. In: a kind, a size, a seed. Out: a folder with pool, oracle and test.

spoiled-10, -30, -50   so much of the demo's pool is spoiled, a quarter of it duplicates
redundant              all right: each original with four near copies (vlmsift.demo.redundant)
mixed                  the same, and 30 % of all samples spoiled
rare                   30 % spoiled, and one task has 2 % of the samples
new                    30 % spoiled, and a fifth of the samples ask what no training of the embedded model asked
clean                  all right, no two scenes the same: nothing to gain

The oracle is what a perfect detector would draw from: `oracle.txt`, an id per line. The test set asks the pool's tasks
about digits that neither the pool nor the embedded model has seen.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from vlmsift.demo.digits import BLANK, Scene, Split, draw_scene, to_png
from vlmsift.demo.pool import make_pool, read_truth
from vlmsift.demo.questions import BY_TEXT, TASKS, Question, Values, draw_question
from vlmsift.demo.redundant import group, make_redundant

KINDS = ("spoiled-10", "spoiled-30", "spoiled-50", "redundant", "mixed", "rare", "new", "clean")
COPIES = 5
SPOILED = 0.3
RARE, RARE_SHARE = "row_sum", 0.02


@dataclass(frozen=True, slots=True)
class Largest(Question):
    """A task that the embedded model was never asked."""

    def answer(self, values: Values) -> str:
        return str(max((value for value in values if value is not None), default="none"))


NEW = tuple(Largest("largest", text) for text in ("What is the largest digit?", "Which digit is the biggest?"))
_ASKED = {**BY_TEXT, **{question.text: question for question in NEW}}


@dataclass(slots=True)
class Entry:
    """A sample in the making."""

    scene: Scene
    question: Question
    answer: str
    right: bool = True


def make_data(kind: str, folder: Path, size: int, seed: int, tests: int) -> dict[str, Path]:
    """`pool`, the ids in `oracle` and the `test` set; what is there already is not made again."""
    pool, oracle, test = folder / "pool" / "pool.json", folder / "oracle.txt", folder / "test" / "test.json"
    if not test.exists():
        folder.mkdir(parents=True, exist_ok=True)
        best = _make(kind, pool.parent, size, seed)
        oracle.write_text("".join(f"{name}\n" for name in best))
        rng, shares = np.random.default_rng([seed, 5]), _shares(kind)
        if kind in ("rare", "new"):  # judged on all tasks alike
            shares = dict.fromkeys(shares, 1 / len(shares))
        entries = [_draw(rng, "test", shares) for _ in range(tests)]
        write_rows(test, entries)
    return {"pool": pool, "oracle": oracle, "test": test}


def _make(kind: str, folder: Path, size: int, seed: int) -> Sequence[str]:
    """Write the pool and `wrong.txt`, the ids of what is wrong; the ids that an oracle draws from."""
    wrong: list[str]
    if kind.startswith("spoiled"):
        make_pool(folder, size, seed, int(kind.partition("-")[2]) / 100)
        truth = read_truth(folder)
        wrong = [name for name, row in truth.items() if row["kind"] not in ("clean", "duplicate")]
        best = [name for name, row in truth.items() if row["kind"] == "clean"]
    elif kind in ("redundant", "mixed"):
        path = make_redundant(folder, size, COPIES, seed)
        rows, wrong = json.loads(path.read_text()), []
        if kind == "mixed":
            wrong = _spoil_rows(rows, folder, np.random.default_rng([seed, 7]))
            path.write_text(json.dumps(rows, indent=1) + "\n")
        best = _one_of_each([row["id"] for row in rows], set(wrong), size // COPIES, seed)
    else:
        rng, shares = np.random.default_rng([seed, 3]), _shares(kind)
        entries = _distinct(rng, size, shares)
        if kind != "clean":
            _spoil(rng, entries[: round(SPOILED * size)], entries)
        entries = [entries[place] for place in rng.permutation(size)]
        names = write_rows(folder / "pool.json", entries)
        wrong = [name for name, entry in zip(names, entries, strict=True) if not entry.right]
        best = [name for name, entry in zip(names, entries, strict=True) if entry.right]
    (folder / "wrong.txt").write_text("".join(f"{name}\n" for name in wrong))
    return best


def _shares(kind: str) -> dict[str, float]:
    """Task -> how often it is asked."""
    if kind == "rare":
        common = [task for task in TASKS if task != RARE]
        return {**dict.fromkeys(common, (1 - RARE_SHARE) / len(common)), RARE: RARE_SHARE}
    tasks = (*TASKS, "largest") if kind == "new" else TASKS
    share = {"largest": 0.2} if kind == "new" else {}
    return {task: share.get(task, (1 - sum(share.values())) / len(TASKS)) for task in tasks}


def _draw(rng: Generator, split: Split, shares: dict[str, float]) -> Entry:
    scene = draw_scene(rng, split)
    task = str(rng.choice(list(shares), p=list(shares.values())))
    question = NEW[int(rng.integers(2))] if task == "largest" else draw_question(rng, scene.values, task)
    return Entry(scene, question, question.answer(scene.values))


def _distinct(rng: Generator, count: int, shares: dict[str, float]) -> list[Entry]:
    found: dict[Scene, Entry] = {}
    while len(found) < count:
        entry = _draw(rng, "pool", shares)
        found.setdefault(entry.scene, entry)
    return list(found.values())


def _spoil(rng: Generator, entries: list[Entry], donors: list[Entry]) -> None:
    """Give each entry another scene, another answer of its task, or a blank picture, in turn."""
    for place, entry in enumerate(entries):
        question, right = entry.question, entry.answer
        blankable = question.answer(BLANK.values) != right
        if place % 3 == 0:
            scenes = [other.scene for other in donors if question.answer(other.scene.values) != right]
            entry.scene = scenes[int(rng.integers(len(scenes)))]
        elif place % 3 == 1 or not blankable:
            task = [other.answer for other in donors if other.question.task == question.task]
            others = [answer for answer in task if answer != right]
            entry.answer = others[int(rng.integers(len(others)))]
        else:
            entry.scene = BLANK
        entry.right = False


def _spoil_rows(rows: list[dict[str, Any]], folder: Path, rng: Generator) -> list[str]:
    """The same on rows and their pictures: an image or an answer of another group, or a blank picture."""
    originals = json.loads(json.dumps(rows))
    wrong = []
    for number, place in enumerate(rng.permutation(len(rows))[: round(SPOILED * len(rows))].tolist()):
        row, answer = rows[place], rows[place]["conversations"][-1]["value"]
        question = _ASKED[row["conversations"][0]["value"].partition("\n")[2]]
        others = [
            one
            for one in originals
            if one["source"] == row["source"]
            and one["conversations"][-1]["value"] != answer
            and group(one["id"]) != group(row["id"])
        ]
        donor = others[int(rng.integers(len(others)))]
        if number % 3 == 2 and question.answer(BLANK.values) != answer:
            (folder / row["image"]).write_bytes(to_png(BLANK.picture()))
        elif number % 3 == 1 or question.about is not None:  # a question about a digit may hold for another picture
            row["conversations"][-1]["value"] = donor["conversations"][-1]["value"]
        else:
            row["image"] = donor["image"]
        wrong.append(row["id"])
    return wrong


def _one_of_each(names: list[str], wrong: set[str], budget: int, seed: int) -> list[str]:
    """A right sample of each original, drawn at random; filled up with other right ones to `budget`."""
    order = [names[place] for place in np.random.default_rng(seed).permutation(len(names))]
    right = [name for name in order if name not in wrong]
    first = list({group(name): name for name in right}.values())
    return [*first, *(name for name in right if name not in set(first))][: max(budget, len(first))]


def write_rows(path: Path, entries: Sequence[Entry]) -> list[str]:
    """A LLaVA file with its pictures; the ids."""
    (path.parent / "images").mkdir(parents=True, exist_ok=True)
    rows, names = [], [f"{place:06d}" for place in range(len(entries))]
    for name, entry in zip(names, entries, strict=True):
        image = f"images/{name}.png"
        (path.parent / image).write_bytes(to_png(entry.scene.picture()))
        turns = [("human", f"<image>\n{entry.question.text}"), ("gpt", entry.answer)]
        said = [{"from": role, "value": text} for role, text in turns]
        rows.append({"id": name, "source": entry.question.task, "image": image, "conversations": said})
    path.write_text(json.dumps(rows, indent=1) + "\n")
    return names
