"""In: scenes. Out: questions about them with the one right answer, as samples.

Five tasks, a sample's `source`: `which` digit is in a cell, `is_there` a digit, `how_many` digits, `row_sum` and
`describe`. A sixth, `where` a digit is, is asked in training only: it teaches to look a digit up, which yes and no
teach slowly. Every question that can be asked stands in `QUESTIONS`, so that the right answer can be computed again
from a question's text and from what a picture shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from vlmsift.demo.digits import CELLS, Scene, Split, draw_scene, to_png
from vlmsift.types import IMAGE_MARK, Sample, Turn

TASKS = ("which", "is_there", "how_many", "row_sum", "describe")
PLACES = ("top left", "top right", "bottom left", "bottom right")
ROWS = ("top", "bottom")
ASKED_SHOWN = {"is_there": 0.5, "how_many": 0.75, "where": 0.9}  # how often the digit asked for is in the picture
Values = Sequence[int | None]  # the digit shown in each of the four cells, None where one is empty


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked."""

    task: str
    text: str
    about: int | None = None  # a place (which), a row (row_sum), a digit (other tasks), or None for all cells

    def answer(self, values: Values) -> str:
        """The right answer for a picture that shows `values`."""
        shown = [value for value in values if value is not None]
        if self.task == "describe":
            return _describe(values)
        if self.about is None:
            return str(len(shown))
        if self.task == "which":
            value = values[self.about]
            return "none" if value is None else str(value)
        if self.task == "where":
            return " and ".join(PLACES[place] for place in range(CELLS) if values[place] == self.about) or "nowhere"
        if self.task == "is_there":
            return "yes" if self.about in shown else "no"
        if self.task == "how_many":
            return str(shown.count(self.about))
        return str(sum(value or 0 for value in values[2 * self.about : 2 * self.about + 2]))


def _describe(values: Values) -> str:
    parts = [f"{place} is {'empty' if value is None else value}" for place, value in zip(PLACES, values, strict=True)]
    text = ", ".join(parts) + "."
    return text[0].upper() + text[1:]


def _all_questions() -> tuple[Question, ...]:
    found = [Question("describe", "Describe the picture."), Question("describe", "What is in each place?")]
    found += [Question("how_many", "How many digits are there?"), Question("how_many", "Count the digits.")]
    for place, name in enumerate(PLACES):
        texts = (f"Which digit is {name}?", f"What number is in the {name} place?")
        found += [Question("which", text, place) for text in texts]
    for digit in range(10):
        one = f"{'an' if digit == 8 else 'a'} {digit}"
        found += [Question("is_there", text, digit) for text in (f"Is there {one}?", f"Can you see {one}?")]
        found.append(Question("where", f"Where is the {digit}?", digit))
        found += [
            Question("how_many", text, digit) for text in (f"How many {digit}s are there?", f"Count the {digit}s.")
        ]
    for row, name in enumerate(ROWS):
        texts = (f"What is the sum of the {name} row?", f"Add up the {name} row.")
        found += [Question("row_sum", text, row) for text in texts]
    return tuple(found)


QUESTIONS = _all_questions()
BY_TEXT = {question.text: question for question in QUESTIONS}
_BY_TOPIC: dict[tuple[str, int | None], list[Question]] = {}
for _question in QUESTIONS:
    _BY_TOPIC.setdefault((_question.task, _question.about), []).append(_question)


def draw_question(rng: Generator, values: Values, task: str) -> Question:
    """A random question of a task, about a picture that shows `values`."""
    about: int | None = None
    if task == "which":
        about = int(rng.integers(CELLS))
    elif task == "row_sum":
        about = int(rng.integers(len(ROWS)))
    elif task in ASKED_SHOWN and (task != "how_many" or rng.random() < 2 / 3):
        shown = sorted({value for value in values if value is not None})
        absent = sorted(set(range(10)) - set(shown))
        about = int(rng.choice(shown if rng.random() < ASKED_SHOWN[task] else absent))
    phrasings = _BY_TOPIC[task, about]
    return phrasings[int(rng.integers(len(phrasings)))]


def draw(rng: Generator, name: Split, tasks: Sequence[str] = TASKS) -> tuple[Scene, Question]:
    """A random scene of a split, and a question about it; the tasks are equally likely."""
    scene = draw_scene(rng, name)
    return scene, draw_question(rng, scene.values, tasks[int(rng.integers(len(tasks)))])


def to_sample(scene: Scene, question: Question, index: int, jitter: Generator | None = None) -> Sample:
    """The question with its right answer as a sample whose image is PNG bytes and whose id is its index."""
    turns = (Turn("user", f"{IMAGE_MARK}\n{question.text}"), Turn("assistant", question.answer(scene.values)))
    return Sample(str(index), index, turns, (to_png(scene.picture(jitter)),), question.task, {})


def draw_samples(name: Split, count: int, seed: int = 0) -> list[Sample]:
    """`count` samples made from the digits of a split; the same for the same arguments."""
    rng = np.random.default_rng(seed)
    return [to_sample(*draw(rng, name), index) for index in range(count)]
