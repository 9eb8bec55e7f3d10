"""One cell: choose, train, judge, write down. In: what all cells share. Out: `cells/NAME-DIGEST.json`, whole or absent.

The digest is of all that changes a cell's numbers, so a changed plan finds the cells that it shares with the old one,
and runs the others beside them. A cell that fails leaves `cells/NAME.error.json`, and is tried again by the next call.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmsift.errors import UsageError, VlmsiftError
from vlmsift.experiment.plan import Augmentation
from vlmsift.experiment.table import Key, Result
from vlmsift.files import plain, read_json, write_json

if TYPE_CHECKING:
    from vlmsift.models import Adapter
    from vlmsift.specs import ModelSpec
    from vlmsift.train import Recipe
    from vlmsift.train.data import EncodedData

Record = dict[str, Any]  # a finished cell as it lies in its file; see `Bench.run`


@dataclass(frozen=True)
class State:
    """Where an experiment stands."""

    done: int  # cells
    total: int
    doing: str  # what is under way
    steps: int = 0  # of it
    of: int = 0


Progress = Callable[[State], None]


@dataclass(frozen=True)
class Cell:
    """One training."""

    method: str
    budget: str  # as the plan says
    keep: int  # the same in rows of the pool
    schedule: str
    augmentation: Augmentation
    seed: int

    @property
    def name(self) -> str:
        """Readable, and the beginning of its file's name."""
        budget = self.budget.replace("%", "pct")
        return f"{self.method}-{budget}-{self.schedule}-{self.augmentation.name}-seed{self.seed}"

    @property
    def key(self) -> Key:
        """The row of the table that it enters."""
        return Key("trained", self.schedule, self.budget, self.method, self.augmentation.name)

    @property
    def place(self) -> Record:
        """All that tells it from the others, as it is written down."""
        return {**vars(self), "augmentation": self.augmentation.name}


@dataclass(frozen=True)
class Subset:
    """A cell's samples in the order they are trained in."""

    ids: tuple[str, ...]
    scoring_seconds: float | None = 0.0  # of the signals that it was chosen by; None where unknown
    choosing_seconds: float = 0.0


@dataclass(frozen=True)
class Bench:
    """What the cells of an experiment share."""

    folder: Path  # holds `cells/`, and a cell's weights while it is judged, or for good (`keep_models`)
    model: ModelSpec  # what every training starts from
    recipe: Recipe
    data: EncodedData  # encoded once for all cells
    test: EncodedData
    choose: Callable[[Cell], Subset]  # may raise UsageError
    made_from: Mapping[str, Any]  # what every cell's numbers depend on, from `identify`
    steps: int | None = None  # of the schedule "steps"; None = as many as the full pool takes
    keep_models: bool = False

    def recipe_of(self, cell: Cell) -> Recipe:
        """The recipe, with the cell's steps where steps are to be equal."""
        if cell.schedule == "epochs":
            return self.recipe
        return replace(self.recipe, steps=self.steps or self.recipe.optimiser_steps(len(self.data)))

    def identity(self, cell: Cell) -> Record:
        """All that the cell's numbers depend on."""
        ids = "\0".join(self.choose(cell).ids).encode("utf-8", "surrogatepass")
        return {
            **self.made_from,
            "recipe": asdict(self.recipe_of(cell)),
            "augmentation": cell.augmentation.words,
            "seed": cell.seed,
            "ids": hashlib.sha256(ids).hexdigest(),
        }

    def path(self, cell: Cell) -> Path:
        """The file that the finished cell has. Raises UsageError where its samples cannot be chosen."""
        identity = json.dumps(plain(self.identity(cell)), sort_keys=True)
        return self.folder / "cells" / f"{cell.name}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}.json"

    def error_path(self, cell: Cell) -> Path:
        """The file that a failed cell has."""
        return self.folder / "cells" / f"{cell.name}.error.json"

    def finished(self, cell: Cell) -> Record | None:
        """The cell's record, if it was finished before; None also where its samples cannot be chosen."""
        try:
            return _read(self.path(cell))
        except VlmsiftError:
            return None

    def failure(self, cell: Cell) -> str | None:
        """Why it failed when it was last tried; None where it did not."""
        return (_read(self.error_path(cell)) or {}).get("error")

    def run(self, cell: Cell, progress: Callable[[int, int, float], None] | None = None) -> None:
        """Train and judge one cell, and write its record; numbers that are undefined are None in it."""
        from vlmsift.augment import masked_states
        from vlmsift.evaluate import evaluate
        from vlmsift.train import train

        path, subset, words = self.path(cell), self.choose(cell), cell.augmentation.words
        model = self.folder / ("models" if self.keep_models else "work") / path.stem
        model.parent.mkdir(parents=True, exist_ok=True)
        context = partial(masked_states, **words, seed=cell.seed) if words else None
        data, recipe = self.data.subset(subset.ids), self.recipe_of(cell)
        trained = train(data, self.model, model, recipe=recipe, seed=cell.seed, context=context, progress=progress)
        tasks = evaluate(replace(self.model, model=trained.folder, revision=None), self.test)
        record: Record = {
            "cell": cell.place,
            "identity": self.identity(cell),
            "samples": trained.samples,
            "skipped": len(trained.skipped),
            "steps": trained.steps,
            "training_seconds": trained.seconds,  # the loop alone
            "scoring_seconds": subset.scoring_seconds,
            "choosing_seconds": subset.choosing_seconds,
            "loss": trained.loss,  # of the training's end, nats
            "diverged": trained.diverged,
            "tasks": {
                name: {"samples": task.samples, "accuracy": task.exact, "loss": task.loss, "errors": task.errors}
                for name, task in tasks.items()
            },
        }
        write_json(path, record)
        self.error_path(cell).unlink(missing_ok=True)
        if not self.keep_models:
            shutil.rmtree(model, ignore_errors=True)


def identify(adapter: Adapter, dtype: str, data: EncodedData, test: EncodedData) -> Record:
    """What the numbers of all cells depend on: the model that trainings start from, the pool and the test set."""
    from vlmsift.models.fingerprint import fingerprint
    from vlmsift.scoring.job import fingerprint_images

    return {
        "model": {key: value for key, value in fingerprint(adapter).items() if key != "name"},
        "dtype": dtype,
        "pool": data.fingerprint()["pool"],
        "pool_images": fingerprint_images(data.pool),
        "test": test.fingerprint(),
        "test_images": fingerprint_images(test.pool),
    }


def run_cells(bench: Bench, cells: Iterable[Cell], progress: Progress | None = None) -> None:
    """Run what is not finished; a cell that fails is written down, and the others go on."""
    cells = list(cells)

    def tell(done: int, doing: str, step: int = 0, of: int = 0, loss: float = math.nan) -> None:
        if progress is not None:
            progress(State(done, len(cells), doing, step, of))

    for done, cell in enumerate(cells):
        try:
            if bench.finished(cell) is None:
                tell(done, cell.name)
                bench.run(cell, partial(tell, done, cell.name))
        except Exception as error:  # one cell's fault must not cost the others
            kind = "" if isinstance(error, VlmsiftError) else f"{type(error).__name__}: "
            write_json(bench.error_path(cell), {"cell": cell.place, "error": f"{kind}{error}"})
    tell(len(cells), "done")


def read_cells(bench: Bench, cells: Iterable[Cell], rows: int) -> Iterator[tuple[Cell, Result | None, str | None]]:
    """Each cell with its result, or why it failed; with neither where it is yet to be run. `rows`: of the pool."""
    for cell in cells:
        record = bench.finished(cell)
        result = None if record is None else _result(cell, record, rows)
        yield cell, result, bench.failure(cell) if record is None else None


def _result(cell: Cell, record: Record, rows: int) -> Result:
    seconds: list[Any] = [record["scoring_seconds"], record["choosing_seconds"]]
    known: Record = {name: record[name] for name in ("samples", "steps", "training_seconds", "diverged")}
    known["selection_seconds"] = None if None in seconds else sum(seconds)
    for name, key in (("scores", "accuracy"), ("losses", "loss")):
        known[name] = {task: figures[key] for task, figures in record["tasks"].items()}
    return Result(cell.key, cell.seed, cell.keep / rows, not cell.augmentation.words, **known)


def _read(path: Path) -> Record | None:
    """What a file holds; None where it is absent or damaged."""
    try:
        record = read_json(path)
    except (FileNotFoundError, UsageError):
        return None
    return record if isinstance(record, dict) else None
