"""One cell: select, train, judge, write down. In: a prepared plan. Out: `cells/NAME-DIGEST.json`, whole or absent.

The digest is of all that changes a cell's numbers, so a changed plan finds the cells that it shares with the old one,
and runs the others beside them. A cell that fails leaves `cells/NAME.error.json`, and is tried again by the next call.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmsift import pipeline
from vlmsift.errors import VlmsiftError
from vlmsift.experiment.plan import FULL
from vlmsift.experiment.prepare import Cell, Prepared
from vlmsift.experiment.scoring import Scored, Tuned, score_for
from vlmsift.files import write_atomically
from vlmsift.selecting import select

if TYPE_CHECKING:
    from vlmsift.train import Recipe
    from vlmsift.train.data import EncodedData

Record = dict[str, Any]
"""A finished cell as it lies in its file; see `Bench.run`."""


@dataclass(frozen=True)
class State:
    """Where a comparison stands: cells done of all; what is under way, and how far it is."""

    done: int
    total: int
    doing: str
    steps: int = 0
    of: int = 0


Progress = Callable[[State], None]


@dataclass
class Bench:
    """A plan with everything loaded that its cells share.

    Attributes:
        data, test: samples encoded once, those beyond the recipe's length left out.
        made_from: what every cell's numbers depend on.
    """

    prepared: Prepared
    data: EncodedData
    test: EncodedData
    scored: Mapping[str, Scored]
    made_from: Mapping[str, Any]
    _chosen: dict[tuple[Any, ...], tuple[tuple[str, ...], float]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The plan's folder."""
        return Path(self.prepared.plan.out)

    def choose(self, cell: Cell) -> tuple[tuple[str, ...], float]:
        """The cell's samples in the pool's order, and the seconds of choosing, without scoring.

        Raises:
            UsageError: the method cannot choose so many.
        """
        if cell.method == FULL:
            return tuple(self.data.ids), 0.0
        chooser = self.prepared.choosers[cell.method]
        draws = chooser.selector is None
        seed = cell.seed if draws or self.prepared.plan.redraw else 0
        key = (cell.method, cell.keep, seed)
        if key not in self._chosen:
            started = time.perf_counter()
            if draws:
                kept = self._drawn(cell, chooser.ids)
            else:
                scored = self.scored[cell.method]
                kept = select(scored.run, scored.selector, cell.keep, seed=seed).ids
            wanted = set(kept)
            ordered = tuple(name for name in self.prepared.pool.ids if name in wanted)
            self._chosen[key] = ordered, time.perf_counter() - started
        return self._chosen[key]

    def _drawn(self, cell: Cell, among: Iterable[str] | None) -> tuple[str, ...]:
        """A uniform draw by the cell's seed among the usable samples, text-only ones at the same rate."""
        import pyarrow as pa

        names = list(self.prepared.pool.ids if among is None else among)
        shown = dict(zip(self.data.ids, self.data.has_image, strict=True))
        columns = {
            "id": names,
            "images": [int(shown.get(name, True)) for name in names],
            "status": ["ok" if name in shown else "error" for name in names],
            "reason": [self.data.skipped.get(name) for name in names],
        }
        return select(pa.table(columns), "random", cell.keep, seed=cell.seed).ids

    def recipe(self, cell: Cell) -> Recipe:
        """The plan's recipe, with the cell's steps where steps are to be equal."""
        recipe = self.prepared.recipe
        if cell.schedule == "epochs":
            return recipe
        full = math.ceil(recipe.samples(len(self.data)) / recipe.batch_size)
        return replace(recipe, steps=self.prepared.plan.steps or full)

    def identity(self, cell: Cell, ids: Iterable[str]) -> Record:
        """All that the cell's numbers depend on."""
        return {
            **self.made_from,
            "recipe": asdict(self.recipe(cell)),
            "augmentation": cell.augmentation.words,
            "seed": cell.seed,
            "ids": hashlib.sha256("\0".join(ids).encode("utf-8", "surrogatepass")).hexdigest(),
        }

    def path(self, cell: Cell) -> Path:
        """The file that the finished cell has."""
        identity = _plain(self.identity(cell, self.choose(cell)[0]))
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
        return self.folder / "cells" / f"{cell.name}-{digest}.json"

    def finished(self, cell: Cell) -> Record | None:
        """The cell's record, if it was finished before; None also where its samples cannot be chosen."""
        try:
            record: Record = json.loads(self.path(cell).read_text(encoding="utf-8"))
        except (OSError, ValueError, VlmsiftError):  # absent, damaged, or its samples cannot be chosen
            return None
        return record

    def run(self, cell: Cell, progress: Callable[[int, int, float], None] | None = None) -> Record:
        """Train and judge one cell, and write its record.

        Returns:
            `cell` (its place in the table), `identity`, `samples`, `skipped`, `steps`, `training_seconds` (the loop
            alone), `scoring_seconds` and `choosing_seconds` of the selection, `loss` (of the training's end, nats),
            `diverged`, and `tasks`: task -> samples, accuracy (0..1), loss (nats), errors. Undefined numbers are None.
        """
        from vlmsift.evaluate import evaluate
        from vlmsift.train import train

        plan, (ids, choosing) = self.prepared.plan, self.choose(cell)
        path = self.path(cell)
        scored = self.scored.get(cell.method)
        context = None
        if words := cell.augmentation.words:
            from vlmsift.augment import masked_states

            context = partial(masked_states, **words, seed=cell.seed)
        model = self.folder / ("models" if plan.keep_models else "work") / path.stem
        model.parent.mkdir(parents=True, exist_ok=True)
        trained = train(
            self.data.subset(ids),
            str(plan.model),
            model,
            recipe=self.recipe(cell),
            seed=cell.seed,
            device=plan.device,
            dtype=plan.dtype,
            context=context,
            progress=progress,
        )
        tasks = evaluate(trained.folder, self.test, device=plan.device, dtype=plan.dtype)
        record: Record = {
            "cell": place_of(cell),
            "identity": self.identity(cell, ids),
            "samples": trained.samples,
            "skipped": len(trained.skipped),
            "steps": trained.steps,
            "training_seconds": trained.seconds,
            "scoring_seconds": 0.0 if scored is None else scored.seconds,
            "choosing_seconds": choosing,
            "loss": trained.loss,
            "diverged": trained.diverged,
            "tasks": {
                task: {"samples": one.samples, "accuracy": one.exact, "loss": one.loss, "errors": one.errors}
                for task, one in tasks.items()
            },
        }
        record = _plain(record)
        write_json(path, record)
        self.error_path(cell).unlink(missing_ok=True)
        if not plan.keep_models:
            shutil.rmtree(model, ignore_errors=True)
        return record

    def error_path(self, cell: Cell) -> Path:
        """The file that a failed cell has."""
        return self.folder / "cells" / f"{cell.name}.error.json"


def place_of(cell: Cell) -> Record:
    """Where a cell stands in the table."""
    return {
        "method": cell.method,
        "budget": cell.budget,
        "keep": cell.keep,
        "schedule": cell.schedule,
        "augmentation": cell.augmentation.name,
        "seed": cell.seed,
    }


def open_bench(prepared: Prepared, progress: Progress | None = None) -> Bench:
    """Open the model, encode pool and test set, and score the pool for the methods that need it.

    Raises:
        VlmsiftError: as `open_model` and `score`.
    """
    from vlmsift.models import open_model
    from vlmsift.models.fingerprint import fingerprint
    from vlmsift.pools import open_image
    from vlmsift.train.data import EncodedData

    plan, total = prepared.plan, len(prepared.cells)

    def tell(doing: str, done: int = 0, of: int = 0) -> None:
        if progress is not None:
            progress(State(0, total, doing, done, of))

    model = open_model(str(plan.model), device=plan.device, dtype=plan.dtype)
    encoded = {}
    for name, pool in (("pool", prepared.pool), ("test", prepared.test)):
        tell(f"encoding the {name}")
        encoded[name] = EncodedData.read(pool, model.encoder(partial(open_image, root=pool.image_root)))
    scorer = model if plan.scorer is None else open_model(plan.scorer, device=plan.device, dtype=plan.dtype)
    data = encoded["pool"].without_longer_than(prepared.recipe.max_length)
    tuned = Tuned(
        plan.scorer or str(plan.model),
        data if plan.scorer is None else prepared.pool,
        prepared.recipe,
        (plan.device, plan.dtype),
        lambda step, of, loss: tell("fine-tuning on the whole pool for its checkpoints", step, of),
    )
    scored = score_for(
        prepared.choosers,
        prepared.pool,
        scorer,
        Path(plan.out) / "scores",
        lambda state: tell("scoring the pool", state.done, state.total),
        tuned,
    )
    made_from = {
        "model": {key: value for key, value in fingerprint(model).items() if key != "name"},
        "dtype": plan.dtype,
        "pool": prepared.pool.fingerprint(),
        "pool_images": pipeline.fingerprint_images(prepared.pool),
        "test": encoded["test"].fingerprint(),
        "test_images": pipeline.fingerprint_images(prepared.test),
    }
    return Bench(prepared, data, encoded["test"], scored, made_from)


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
            write_json(bench.error_path(cell), {"cell": place_of(cell), "error": f"{kind}{error}"})
    if progress is not None:
        progress(State(len(cells), len(cells), "done"))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_plain(value), indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _plain(value: Any) -> Any:
    """JSON values alone: tuples as lists, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
