"""A pool of digits with everything that pools have, scored once for all methods.

In: which variant of the pool. Out: per method a run with its columns, and the method's selector for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from vlmsift.demo import MODEL_PATH, START_PATH
from vlmsift.demo.pool import make_pool, read_truth
from vlmsift.methods import METHODS, Method
from vlmsift.runs.run import Run
from vlmsift.scoring.score import score
from vlmsift.selecting import select
from vlmsift.selectors import Mixture, Selector
from vlmsift.specs import EngineSpec
from vlmsift.types import Signal

ROWS = 20
TEXT, BROKEN, TWIN = "text", "broken", "twin"


@cache
def rows(folder: Path) -> list[dict[str, Any]]:
    """Rows of a demo pool without its copies, a text-only one, one whose image is not there, and one twice."""
    made: list[dict[str, Any]] = json.loads(make_pool(folder, 2 * ROWS, 0).read_text())
    truth = read_truth(folder)
    made = [row for row in made if truth[row["id"]]["kind"] != "duplicate"][:ROWS]
    text = {"id": TEXT, "conversations": [{"from": "human", "value": "3?"}, {"from": "gpt", "value": "3"}]}
    return [*made, text, {**made[0], "id": BROKEN, "image": "images/none.png"}, {**made[1], "id": TWIN}]


class Bench:
    """Runs of variants of the pool, each scored once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = rows(folder / "pool")
        self._found: dict[Any, tuple[Run, Selector]] = {}

    def scored(
        self, name: str, order: Sequence[int], tokens_per_batch: int = 8192, time: int = 1
    ) -> tuple[Run, Selector]:
        """The run of the rows at `order`, with the columns of the method `name`, and its selector.

        Args:
            time: 2 = scored once more, into another run.
        """
        key = (name, tuple(order), tokens_per_batch, time)
        if key not in self._found:
            missing = [one for one in METHODS if (one, *key[1:]) not in self._found]
            together = [one for one in missing if _alone(METHODS[one]) == _alone(METHODS[name])]
            number = len(list(self.folder.glob("run-*")))
            path = self.folder / "pool" / f"variant-{number}.json"
            path.write_text(json.dumps([self.rows[place] for place in order]))
            signals, renamed = _union(together)
            run = score(
                path,
                START_PATH if _alone(METHODS[name]) else [START_PATH, MODEL_PATH],
                self.folder / f"run-{number}",
                signals=signals,
                engine=EngineSpec(workers=0, tokens_per_batch=tokens_per_batch),
            )
            for one in together:
                self._found[(one, *key[1:])] = (run, _for_few(METHODS[one].build_selector().with_columns(renamed[one])))
        return self._found[key]

    def chosen(self, name: str, keep: float | str, order: Sequence[int] | None = None, **how: Any) -> list[str]:
        """Ids that the method keeps, best first."""
        scoring = {word: how.pop(word) for word in ("tokens_per_batch", "time") if word in how}
        run, selector = self.scored(name, range(len(self.rows)) if order is None else order, **scoring)
        return list(select(run, selector, keep, **how).ids)


def _for_few(selector: Selector) -> Selector:
    """One that judges no small pool judges this one."""
    return replace(selector, fewest=10) if isinstance(selector, Mixture) else selector


def _alone(method: Method) -> bool:
    """Whether one model is scored."""
    return method.training is None or method.training.snapshots == 1


def _union(names: Sequence[str]) -> tuple[dict[str, Signal], dict[str, dict[str, str]]]:
    """All signals of some methods under columns of their own, and per method what became of its columns."""
    signals: dict[str, Signal] = {}
    renamed: dict[str, dict[str, str]] = {}
    for name in names:
        renamed[name] = {}
        for column, signal in METHODS[name].build_signals().items():
            known = any(field.name == "probes" for field in fields(signal))  # type: ignore[arg-type]
            signal = replace(signal, probes=20) if known else signal  # type: ignore[type-var]
            same = [one for one, other in signals.items() if other.parameters() == signal.parameters()]
            same = [one for one in same if type(signals[one]) is type(signal)]
            renamed[name][column] = same[0] if same else f"{column}_{len(signals)}"
            signals[renamed[name][column]] = signal
    return signals, renamed
