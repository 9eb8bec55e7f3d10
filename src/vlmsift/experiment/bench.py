"""A plan's bench. In: a prepared plan. Out: pool and test set encoded, the pool scored, and how each cell chooses."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmsift.errors import UsageError
from vlmsift.experiment.cells import Bench, Cell, Progress, State, Subset, identify
from vlmsift.experiment.plan import FULL, Plan
from vlmsift.experiment.prepare import Prepared
from vlmsift.experiment.scoring import Scored, Tuned, score_for
from vlmsift.selecting import select

if TYPE_CHECKING:
    from vlmsift.models import Adapter
    from vlmsift.train.data import EncodedData


def open_bench(prepared: Prepared, progress: Progress | None = None) -> Bench:
    """Open the models, encode pool and test set, and score the pool for the arms that need it.

    Raises:
        VlmsiftError: as `open_model` and `score`, or an augmentation that the model cannot have.
    """
    from vlmsift.models import open_model
    from vlmsift.pools import open_image
    from vlmsift.train.data import EncodedData

    plan = prepared.plan
    assert plan.model is not None
    start, scorer, folder = plan.model, plan.scorer or plan.model, Path(plan.out)

    def tell(doing: str, done: int = 0, of: int = 0, loss: float = 0.0) -> None:
        if progress is not None:
            progress(State(0, len(prepared.cells), doing, done, of))

    models = {spec: open_model(spec) for spec in dict.fromkeys([start, scorer])}
    _check_augmentations(plan, models[start])
    encoded = {}
    for name, pool in (("pool", prepared.pool), ("test", prepared.test)):
        tell(f"encoding the {name}")
        encoded[name] = EncodedData.read(pool, models[start].encoder(partial(open_image, root=pool.image_root)))
    recipe, test = prepared.recipe, encoded["test"]
    data = encoded["pool"].without_longer_than(recipe.max_length)
    tuning = partial(tell, "fine-tuning on the whole pool for its checkpoints")
    tuned = Tuned(scorer, data if plan.scorer is None else prepared.pool, recipe, tuning)  # encoded for the start alone
    scored = score_for(
        prepared.choosers,
        prepared.pool,
        models[scorer],
        folder / "scores",
        lambda state: tell("scoring the pool", state.done, state.total),
        tuned,
    )
    made_from, choosing = identify(models[start], start.dtype, data, test), Choosing(prepared, data, scored)
    return Bench(folder, start, recipe, data, test, choosing, made_from, plan.steps, plan.keep_models)


def _check_augmentations(plan: Plan, model: Adapter) -> None:
    """Raises UsageError or UnsupportedModel where an augmentation cannot be opened on the model."""
    from vlmsift.augment import masked_states

    for augmentation in plan.augmentations:
        if augmentation.words:
            try:
                with masked_states(model.model, **augmentation.words):
                    pass
            except UsageError as error:
                raise UsageError(f"augmentations: {augmentation.name}: {error}") from error


@dataclass(frozen=True)
class Choosing:
    """Cell -> its samples, in the pool's order; what was chosen once is remembered."""

    prepared: Prepared
    data: EncodedData
    scored: Mapping[str, Scored]
    _chosen: dict[tuple[Any, ...], Subset] = field(default_factory=dict)

    def __call__(self, cell: Cell) -> Subset:
        """Raises UsageError where the method cannot choose so many."""
        if cell.method == FULL:
            return Subset(tuple(self.data.ids))
        scored = self.scored.get(cell.method)  # None = drawn
        seed = cell.seed if scored is None or self.prepared.plan.redraw else 0
        key = (cell.method, cell.keep, seed)
        if key not in self._chosen:
            started = time.perf_counter()
            kept = set(select(scored.run, scored.selector, cell.keep, seed=seed).ids if scored else self._draw(cell))
            ids = tuple(name for name in self.prepared.pool.ids if name in kept)
            self._chosen[key] = Subset(ids, scored.seconds if scored else 0.0, time.perf_counter() - started)
        return self._chosen[key]

    def _draw(self, cell: Cell) -> tuple[str, ...]:
        """A uniform draw by the cell's seed among the usable samples, text-only ones at the same rate."""
        import pyarrow as pa

        among = self.prepared.choosers[cell.method].ids
        names = list(self.prepared.pool.ids if among is None else among)
        shown = dict(zip(self.data.ids, self.data.has_image, strict=True))
        columns = {
            "id": names,
            "images": [int(shown.get(name, True)) for name in names],  # an unusable one is not drawn anyway
            "status": ["ok" if name in shown else "error" for name in names],
            "reason": [self.data.skipped.get(name) for name in names],
        }
        return tuple(select(pa.table(columns), "random", cell.keep, seed=cell.seed).ids)
