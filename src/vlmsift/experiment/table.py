"""The table of a comparison. In: entries, one per training. Out: rows, one per method, budget, schedule, augmentation.

Means and standard deviations (n - 1) are over seeds; diverged trainings count in `diverged` and in nothing else. One
`origin` has one set of tasks: own trainings and imported runs stand below each other and are never averaged together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, NamedTuple

from vlmsift.experiment.plan import BAND_SEEDS, FULL, RANDOM

COLUMNS = {
    "origin": "'trained' here, or 'imported' from lmms-eval",
    "method": "how the samples were chosen",
    "budget": "how many, as the plan says",
    "share": "the same as a share of the pool, 0 to 1",
    "schedule": "'epochs': each subset is seen as often; 'steps': each training has as many steps",
    "augmentation": "name of the augmentation while training",
    "seeds": "trainings that the means are over",
    "diverged": "trainings that diverged: in no mean",
    "failed": "trainings that ended in an error",
    "samples": "mean number of samples trained on",
    "steps": "mean number of optimiser steps",
    "accuracy": "mean over tasks of the share of exact answers; empty where a task's score is no share",
    "accuracy_std": "standard deviation of it over seeds",
    "loss": "mean over tasks of the answer loss, nats; lower is better",
    "relative": "mean over tasks of 100 x score / the full pool's mean score",
    "relative_std": "standard deviation of it over seeds",
    "training_seconds": "mean seconds of training",
    "selection_seconds": "mean seconds of scoring (this method's share of a shared run) and choosing",
    "cost_ratio": "mean of (selection + training) / training on everything",
    "random_mean": "the random band at this budget and schedule, without augmentation: mean over its seeds",
    "random_std": "its standard deviation",
    "random_low": "its lowest seed",
    "random_high": "its highest seed: the band's upper end",
    "above_random": "whether the mean lies above the band's upper end; empty with fewer than 5 random seeds",
}
"""Column -> what it says. Behind them stand accuracy/TASK, accuracy_std/TASK and loss/TASK of each task."""

_TEXT = ("origin", "method", "budget", "schedule", "augmentation")
_WHOLE = ("seeds", "diverged", "failed")


class Key(NamedTuple):
    """What a row is about."""

    origin: str
    schedule: str
    budget: str
    method: str
    augmentation: str


@dataclass(frozen=True)
class Entry:
    """One training. None where unknown.

    Attributes:
        share: of the pool, 0 to 1. plain: nothing was augmented.
        scores: task -> score, higher is better. losses: task -> nats.
    """

    key: Key
    seed: int
    share: float | None
    plain: bool
    samples: float | None
    steps: float | None
    training_seconds: float | None
    selection_seconds: float | None
    diverged: bool
    scores: Mapping[str, float | None]
    losses: Mapping[str, float | None]

    @property
    def name(self) -> str:
        """For messages."""
        return f"{' '.join(self.key[1:])} seed {self.seed}"


Row = dict[str, Any]


def build_rows(entries: Sequence[Entry], failed: Iterable[Key] = ()) -> tuple[list[Row], list[str]]:
    """Rows of `COLUMNS` and the tasks' columns, and notes on what is in no mean."""
    failures = Counter(failed)
    notes: list[str] = []
    rows: list[Row] = []
    for origin in dict.fromkeys([*(one.key.origin for one in entries), *(key.origin for key in failures)]):
        own = [one for one in entries if one.key.origin == origin]
        tasks = list(dict.fromkeys(task for one in own for task in one.scores))
        whole = []
        for one in own:
            lacking = [task for task in tasks if one.scores.get(task) is None]
            if one.diverged:
                notes.append(f"diverged, in no mean: {one.name}")
            elif lacking:
                notes.append(f"without a score of {', '.join(lacking)}, in no mean: {one.name}")
                continue
            whole.append(one)
        keys = dict.fromkeys([*(one.key for one in own), *(key for key in failures if key.origin == origin)])
        section = _Section(whole, tasks)
        schedules = list(dict.fromkeys(key.schedule for key in keys))  # one after the other
        ordered = sorted(keys, key=lambda key: schedules.index(key.schedule))
        rows += [section.row(key, failures[key]) for key in ordered]
    return rows, notes


class _Section:
    """The entries of one origin, and what each is held against."""

    def __init__(self, entries: Sequence[Entry], tasks: Sequence[str]) -> None:
        self.tasks = tasks
        self.entries = entries
        self.good = [one for one in entries if not one.diverged]
        self.shares = all(0 <= _known(one.scores[task]) <= 1 for one in self.good for task in tasks)
        schedules = {one.key.schedule for one in entries}
        self.full = {name: [one for one in self.good if self._is(one, FULL, name)] for name in schedules}

    def row(self, key: Key, failed: int) -> Row:
        """All columns of one row."""
        mine = [one for one in self.entries if one.key == key]
        good = [one for one in mine if not one.diverged]
        accuracies, ratios = [self.accuracy(one) for one in good], [self.relative(one) for one in good]
        score = _mean(accuracies) if self.shares else _mean(ratios)
        band = [
            self.accuracy(one) if self.shares else self.relative(one)
            for one in self.good
            if self._is(one, RANDOM, key.schedule) and one.key.budget == key.budget
        ]
        high = max(map(_known, band)) if len(band) >= BAND_SEEDS and None not in band else None
        is_random = key.method == RANDOM and all(one.plain for one in mine)
        row: Row = {
            **key._asdict(),
            "share": next((one.share for one in mine), None),
            "seeds": len(good),
            "diverged": len(mine) - len(good),
            "failed": failed,
            "samples": _mean([one.samples for one in good]),
            "steps": _mean([one.steps for one in good]),
            "accuracy": _mean(accuracies),
            "accuracy_std": _std(accuracies),
            "loss": _mean([_mean([one.losses.get(task) for task in self.tasks]) for one in good]),
            "relative": _mean(ratios),
            "relative_std": _std(ratios),
            "training_seconds": _mean([one.training_seconds for one in good]),
            "selection_seconds": _mean([one.selection_seconds for one in good]),
            "cost_ratio": _mean([self.cost(one) for one in good]),
            "random_mean": _mean(band),
            "random_std": _std(band),
            "random_low": min(map(_known, band)) if band and None not in band else None,
            "random_high": max(map(_known, band)) if band and None not in band else None,
            "above_random": None if high is None or score is None or is_random else score > high,
        }
        for task in self.tasks:
            row[f"accuracy/{task}"] = _mean([one.scores[task] for one in good])
            row[f"accuracy_std/{task}"] = _std([one.scores[task] for one in good])
            row[f"loss/{task}"] = _mean([one.losses.get(task) for one in good])
        return {name: row.get(name) for name in [*COLUMNS, *(name for name in row if name not in COLUMNS)]}

    def accuracy(self, one: Entry) -> float | None:
        """Mean over tasks; None where a task's score is no share."""
        return _mean([one.scores[task] for task in self.tasks]) if self.shares else None

    def relative(self, one: Entry) -> float | None:
        """Mean over tasks of 100 x score / full; None without a full pool's score above 0."""
        full = self.full.get(one.key.schedule, [])
        whole = [_mean([entry.scores[task] for entry in full]) for task in self.tasks]
        if not whole or any(score is None or score <= 0 for score in whole):
            return None
        return fmean(
            100 * _known(one.scores[task]) / _known(score) for task, score in zip(self.tasks, whole, strict=True)
        )

    def cost(self, one: Entry) -> float | None:
        """(selection + training) / training on everything."""
        full = _mean([entry.training_seconds for entry in self.full.get(one.key.schedule, [])])
        if not full or one.training_seconds is None or one.selection_seconds is None:
            return None
        return (one.selection_seconds + one.training_seconds) / full

    def _is(self, one: Entry, method: str, schedule: str) -> bool:
        return one.plain and one.key.method == method and one.key.schedule == schedule


def _known(value: float | None) -> float:
    assert value is not None
    return value


def _mean(values: Sequence[float | None]) -> float | None:
    """None where there are no values, or one is unknown: a mean over fewer would be another number."""
    return fmean(map(_known, values)) if values and None not in values else None


def _std(values: Sequence[float | None]) -> float | None:
    return stdev(map(_known, values)) if len(values) > 1 and None not in values else None


def as_table(rows: Sequence[Row]) -> Any:
    """The rows as a `pyarrow.Table`; a column that a row lacks is null."""
    import pyarrow as pa

    names = dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)])

    def kind(name: str) -> Any:
        return (
            pa.string()
            if name in _TEXT
            else pa.int64()
            if name in _WHOLE
            else pa.bool_()
            if name == "above_random"
            else pa.float64()
        )

    schema = pa.schema([pa.field(name, kind(name), metadata={"says": COLUMNS.get(name, "")}) for name in names])
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
