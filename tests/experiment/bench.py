"""A little comparison on disk, and stand-ins for training and judging that take no time.

In: changes to the plan. Out: a plan file beside a demo pool and its test set.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from vlmsift.demo import MODEL_PATH
from vlmsift.demo.pool import make_pool, read_truth

SMALL = {"name": "llava-1.5", "batch_size": 8, "learning_rate": 1e-4, "gradient_checkpointing": False}


def write_data(folder: Path) -> Path:
    """`pool/`, `test/` and `clean.txt` of a demo pool of 40 samples."""
    make_pool(folder / "pool", size=40, seed=1)
    make_pool(folder / "test", size=20, seed=2, spoiled=0)
    clean = [name for name, row in read_truth(folder / "pool").items() if row["kind"] == "clean"]
    (folder / "clean.txt").write_text("\n".join(clean))
    return folder


def write_plan(folder: Path, data: Path, **changes: Any) -> Path:
    """A plan over the data; a change of None takes its key away."""
    plan: dict[str, Any] = {
        "pool": str(data / "pool" / "pool.json"),
        "test": {"data": str(data / "test" / "pool.json")},
        "model": str(MODEL_PATH),
        "methods": ["full", "random"],
        "budgets": ["20%"],
        "seeds": 2,
        "recipe": SMALL,
        "out": "out",
        **changes,
    }
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in plan.items() if value is not None}))
    return path


class StandIn:
    """In place of `train` and `evaluate`: remembers what was trained, and answers by a rule.

    Attributes:
        trained: (folder name, ids, seed, steps of the recipe, context) of each call.
        accuracy: ids and seed -> accuracy of the task "a"; "b" has half of it.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trained: list[SimpleNamespace] = []
        self.before: Callable[[int], None] = lambda number: None
        self.accuracy: Callable[[Any], float] = lambda call: len(call.ids) / 40
        self.diverges: Callable[[Any], bool] = lambda call: False
        monkeypatch.setattr("vlmsift.train.train", self.train)
        monkeypatch.setattr("vlmsift.evaluate.evaluate", self.evaluate)

    def train(self, data: Any, model: str, out: Path, **how: Any) -> SimpleNamespace:
        self.before(len(self.trained))
        call = SimpleNamespace(
            name=out.name, ids=tuple(data.ids), seed=how["seed"], recipe=how["recipe"], context=how["context"]
        )
        self.trained.append(call)
        out.mkdir(parents=True)
        (out / "weights").write_text("heavy")
        return SimpleNamespace(
            folder=out,
            samples=len(data),
            steps=how["recipe"].steps or 1,
            seconds=len(data) / 10,
            loss=float("nan") if self.diverges(call) else 0.5,
            diverged=self.diverges(call),
            skipped={},
        )

    def evaluate(self, model: Path, data: Any, **how: Any) -> dict[str, SimpleNamespace]:
        exact = self.accuracy(self.trained[-1])
        return {
            "a": SimpleNamespace(samples=10, exact=exact, loss=1.0, errors=0),
            "b": SimpleNamespace(samples=10, exact=exact / 2, loss=2.0, errors=0),
        }
