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

Record = dict[str, Any]
"""A finished cell as it lies in its file; see `Bench.run`."""


@dataclass(frozen=True)
class State:
    """Where an experiment stands: cells done of all; what is under way, and how far it is."""

    done: int
    total: int
    doing: str
    steps: int = 0
    of: int = 0


Progress = Callable[[State], None]


@dataclass(frozen=True)
class Cell:
    """One training. `keep` is its budget in rows of the pool."""

    method: str
    budget: str
    keep: int
    schedule: str
    augmentation: Augmentation
    seed: int

    @property
    def name(self) -> str:
        """Readable, and the beginning of its file's name."""
        parts = (self.method, self.budget.replace("%", "pct"), self.schedule, self.augmentation.name)
        return f"{'-'.join(parts)}-seed{self.seed}"

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
    """A cell's samples in the order they are trained in, and the seconds that choosing them took; None where unknown.

    Attributes:
        scoring_seconds: of the signals that it was chosen by.
    """

    ids: tuple[str, ...]
    scoring_seconds: float | None = 0.0
    choosing_seconds: float = 0.0


@dataclass(frozen=True)
class Bench:
    """What the cells of an experiment share.

    Attributes:
        folder: holds `cells/`, and a cell's weights while it is judged, or for good (`keep_models`).
        model: what every training starts from.
        data, test: samples encoded once.
        choose: cell -> its samples; may raise UsageError.
        made_from: what every cell's numbers depend on, from `identify`.
        steps: of the schedule "steps"; None = as many as the full pool takes.
    """

    folder: Path
    model: ModelSpec
    recipe: Recipe
    data: EncodedData
    test: EncodedData
    choose: Callable[[Cell], Subset]
    made_from: Mapping[str, Any]
    steps: int | None = None
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

    def run(self, cell: Cell, progress: Callable[[int, int, float], None] | None = None) -> Record:
        """Train and judge one cell, and write its record.

        Returns:
            `cell` (its place in the table), `identity`, `samples`, `skipped`, `steps`, `training_seconds` (the loop
            alone), `scoring_seconds` and `choosing_seconds` of the selection, `loss` (of the training's end, nats),
            `diverged`, and `tasks`: task -> samples, accuracy (0..1), loss (nats), errors. Undefined numbers are None.
        """
        from vlmsift.augment import masked_states
        from vlmsift.evaluate import evaluate
        from vlmsift.train import train

        path, subset, words = self.path(cell), self.choose(cell), cell.augmentation.words
        model = self.folder / ("models" if self.keep_models else "work") / path.stem
        model.parent.mkdir(parents=True, exist_ok=True)
        trained = train(
            self.data.subset(subset.ids),
            self.model,
            model,
            recipe=self.recipe_of(cell),
            seed=cell.seed,
            context=partial(masked_states, **words, seed=cell.seed) if words else None,
            progress=progress,
        )
        tasks = evaluate(replace(self.model, model=trained.folder, revision=None), self.test)
        record: Record = plain(
            {
                "cell": cell.place,
                "identity": self.identity(cell),
                "samples": trained.samples,
                "skipped": len(trained.skipped),
                "steps": trained.steps,
                "training_seconds": trained.seconds,
                "scoring_seconds": subset.scoring_seconds,
                "choosing_seconds": subset.choosing_seconds,
                "loss": trained.loss,
                "diverged": trained.diverged,
                "tasks": {
                    name: {"samples": task.samples, "accuracy": task.exact, "loss": task.loss, "errors": task.errors}
                    for name, task in tasks.items()
                },
            }
        )
        write_json(path, record)
        self.error_path(cell).unlink(missing_ok=True)
        if not self.keep_models:
            shutil.rmtree(model, ignore_errors=True)
        return record


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
    for done, cell in enumerate(cells):

        def tell(step: int, of: int, loss: float, done: int = done, cell: Cell = cell) -> None:
            if progress is not None:
                progress(State(done, len(cells), cell.name, step, of))

        try:
            if bench.finished(cell) is None:
                tell(0, 0, math.nan)
                bench.run(cell, tell)
        except Exception as error:  # one cell's fault must not cost the others
            kind = "" if isinstance(error, VlmsiftError) else f"{type(error).__name__}: "
            write_json(bench.error_path(cell), {"cell": cell.place, "error": f"{kind}{error}"})
    if progress is not None:
        progress(State(len(cells), len(cells), "done"))


def read_cells(bench: Bench, cells: Iterable[Cell], rows: int) -> Iterator[tuple[Cell, Result | None, str | None]]:
    """Each cell with its result, or why it failed; with neither where it is yet to be run.

    Args:
        rows: of the pool, which shares are of.
    """
    for cell in cells:
        record = bench.finished(cell)
        if record is None:
            yield cell, None, bench.failure(cell)
        else:
            yield cell, _result(cell, record, rows), None


def _result(cell: Cell, record: Record, rows: int) -> Result:
    seconds: list[Any] = [record["scoring_seconds"], record["choosing_seconds"]]
    return Result(
        cell.key,
        cell.seed,
        cell.keep / rows,
        not cell.augmentation.words,
        record["samples"],
        record["steps"],
        record["training_seconds"],
        None if None in seconds else sum(seconds),
        record["diverged"],
        {name: task["accuracy"] for name, task in record["tasks"].items()},
        {name: task["loss"] for name, task in record["tasks"].items()},
    )


def _read(path: Path) -> Record | None:
    """What a file holds; None where it is absent or damaged."""
    try:
        record = read_json(path)
    except (FileNotFoundError, UsageError):
        return None
    return record if isinstance(record, dict) else None
