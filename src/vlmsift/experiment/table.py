"""The table of a comparison. In: results, one per training. Out: rows, one per method, budget, schedule, augmentation.

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


class Key(NamedTuple):
    """What a row is about."""

    origin: str
    schedule: str
    budget: str
    method: str
    augmentation: str


@dataclass(frozen=True)
class Result:
    """One finished training. None where unknown."""

    key: Key
    seed: int
    share: float | None  # of the pool, 0 to 1
    plain: bool  # nothing was augmented
    samples: float | None
    steps: float | None
    training_seconds: float | None
    selection_seconds: float | None  # scoring and choosing
    diverged: bool
    scores: Mapping[str, float | None]  # task -> score, higher is better
    losses: Mapping[str, float | None]  # task -> nats

    @property
    def name(self) -> str:
        """For messages."""
        return f"{' '.join(self.key[1:])} seed {self.seed}"


Row = dict[str, Any]


def build_rows(results: Sequence[Result], failed: Iterable[Key] = ()) -> tuple[list[Row], list[str]]:
    """Rows of `COLUMNS` and the tasks' columns, and notes on what is in no mean."""
    failures = Counter(failed)
    notes: list[str] = []
    rows: list[Row] = []
    for origin in dict.fromkeys(key.origin for key in [*(result.key for result in results), *failures]):
        own = [result for result in results if result.key.origin == origin]
        tasks = list(dict.fromkeys(task for result in own for task in result.scores))
        whole = []
        for result in own:
            lacking = [task for task in tasks if result.scores.get(task) is None]
            if result.diverged:
                notes.append(f"diverged, in no mean: {result.name}")
            elif lacking:
                notes.append(f"without a score of {', '.join(lacking)}, in no mean: {result.name}")
                continue
            whole.append(result)
        keys = dict.fromkeys([*(result.key for result in own), *(key for key in failures if key.origin == origin)])
        section, schedules = _Section(whole, tasks), [key.schedule for key in keys]
        ordered = sorted(keys, key=lambda key: schedules.index(key.schedule))  # one schedule after the other
        rows += [section.row(key, failures[key]) for key in ordered]
    return rows, notes


_COSTS = ("samples", "steps", "training_seconds", "selection_seconds")


class _Section:
    """The results of one origin, and what each is held against."""

    def __init__(self, results: Sequence[Result], tasks: Sequence[str]) -> None:
        self.tasks, self.results = tasks, results
        self.good = [result for result in results if not result.diverged]
        self.shares = all(0 <= _known(result.scores[task]) <= 1 for result in self.good for task in tasks)
        self.full = {result.key.schedule: self._plain(FULL, result.key.schedule) for result in results}

    def row(self, key: Key, failed: int) -> Row:
        """All columns of one row."""
        mine = [result for result in self.results if result.key == key]  # one per seed
        good = [result for result in mine if not result.diverged]
        measure = self.accuracy if self.shares else self.relative
        score = _mean([measure(result) for result in good])
        drawn = self._plain(RANDOM, key.schedule)
        band = [measure(result) for result in drawn if result.key.budget == key.budget]
        low, high = (None, None) if None in band or not band else (min(map(_known, band)), max(map(_known, band)))
        is_random = key.method == RANDOM and all(result.plain for result in mine)
        judged = high is not None and score is not None and len(band) >= BAND_SEEDS and not is_random
        row: Row = {
            **key._asdict(),
            "share": next((result.share for result in mine), None),
            "seeds": len(good),
            "diverged": len(mine) - len(good),
            "failed": failed,
            **{name: _mean([getattr(result, name) for result in good]) for name in _COSTS},
            **_mean_and_std("accuracy", [self.accuracy(result) for result in good]),
            "loss": _mean([_mean([result.losses.get(task) for task in self.tasks]) for result in good]),
            **_mean_and_std("relative", [self.relative(result) for result in good]),
            "cost_ratio": _mean([self.cost(result) for result in good]),
            "random_mean": _mean(band),
            "random_std": _std(band),
            "random_low": low,
            "random_high": high,
            "above_random": _known(score) > _known(high) if judged else None,
        }
        for task in self.tasks:
            scores = [result.scores[task] for result in good]
            row |= {f"accuracy/{task}": _mean(scores), f"accuracy_std/{task}": _std(scores)}
            row[f"loss/{task}"] = _mean([result.losses.get(task) for result in good])
        return row

    def accuracy(self, result: Result) -> float | None:
        """Mean over tasks; None where a task's score is no share."""
        return _mean([result.scores[task] for task in self.tasks]) if self.shares else None

    def relative(self, result: Result) -> float | None:
        """Mean over tasks of 100 x score / full; None without a full pool's score above 0."""
        full = self.full.get(result.key.schedule, [])  # one per seed
        whole = [_mean([other.scores[task] for other in full]) for task in self.tasks]
        if not whole or any(score is None or score <= 0 for score in whole):
            return None
        pairs = zip(self.tasks, whole, strict=True)
        return fmean(100 * _known(result.scores[task]) / _known(score) for task, score in pairs)

    def cost(self, result: Result) -> float | None:
        """(selection + training) / training on everything."""
        full = _mean([other.training_seconds for other in self.full.get(result.key.schedule, [])])
        if not full or result.training_seconds is None or result.selection_seconds is None:
            return None
        return (result.selection_seconds + result.training_seconds) / full

    def _plain(self, method: str, schedule: str) -> list[Result]:
        """The good results of a method without augmentation."""
        good = [result for result in self.good if result.plain and result.key.method == method]
        return [result for result in good if result.key.schedule == schedule]


def _known(value: float | None) -> float:
    assert value is not None
    return value


def _mean(values: Sequence[float | None]) -> float | None:
    """None where there are no values, or one is unknown: a mean over fewer would be another number."""
    return fmean(map(_known, values)) if values and None not in values else None


def _std(values: Sequence[float | None]) -> float | None:
    return stdev(map(_known, values)) if len(values) > 1 and None not in values else None


def _mean_and_std(name: str, values: Sequence[float | None]) -> Row:
    return {name: _mean(values), f"{name}_std": _std(values)}


def as_table(rows: Sequence[Row]) -> Any:
    """The rows as a `pyarrow.Table`; a column that a row lacks is null."""
    import pyarrow as pa

    kinds = {**dict.fromkeys(Key._fields, pa.string()), "above_random": pa.bool_()}
    kinds |= dict.fromkeys(("seeds", "diverged", "failed"), pa.int64())  # all others are numbers that may be null
    names = dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)])
    fields = [pa.field(name, kinds.get(name, pa.float64()), metadata={"says": COLUMNS.get(name, "")}) for name in names]
    return pa.Table.from_pylist([dict(row) for row in rows], schema=pa.schema(fields))
