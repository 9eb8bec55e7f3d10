"""All that can be known before anything is loaded. In: a plan. Out: open pools, checked arms and cells; or an error."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmsift.errors import UsageError
from vlmsift.experiment.cells import Cell
from vlmsift.experiment.overlap import refuse_shared_images
from vlmsift.experiment.plan import BAND_SEEDS, BUILT_IN, FULL, NONE, RANDOM, Arm, Augmentation, Plan
from vlmsift.places import as_place
from vlmsift.pools import Pool, open_pool
from vlmsift.selectors import Selector, Top, build_selector
from vlmsift.specs import PoolSpec
from vlmsift.types import Signal

if TYPE_CHECKING:
    from vlmsift.train import Recipe


@dataclass(frozen=True)
class Chooser:
    """How an arm chooses."""

    signals: Mapping[str, Signal] = field(default_factory=dict)  # column -> what the pool is scored with
    selector: Selector | None = None  # chooses by them; None for draws, of which each seed makes one of its own
    snapshots: int | None = None  # score so many checkpoints of a fine-tune on the pool; None = the scoring model
    ids: tuple[str, ...] | None = None  # what is drawn from; None = everything


@dataclass(frozen=True)
class Prepared:
    """A plan with its pools open."""

    plan: Plan
    pool: Pool
    test: Pool
    recipe: Recipe
    choosers: Mapping[str, Chooser]
    cells: tuple[Cell, ...]
    warnings: tuple[str, ...]  # sentences for the report


def prepare(plan: Plan) -> Prepared:
    """Check everything in a plan that needs no model.

    Raises:
        UsageError: an unknown method, signal, recipe, device or augmentation, a missing file, a budget that keeps
            nothing, or a test set that shares images with the pool. FormatError: a data set that cannot be read.
        MissingExtra: training needs a package that is not installed.
    """
    from vlmsift.models.opening import check_model
    from vlmsift.train.job import check_setting

    changes = dict(plan.recipe) if isinstance(plan.recipe, dict) else {"name": plan.recipe}
    assert plan.model is not None
    recipe, _ = check_setting(plan.model, str(changes.pop("name", "llava-1.5")), changes)
    if plan.scorer is not None:
        check_model(plan.scorer)
    if recipe.steps is not None:
        raise UsageError(f"recipe: steps={recipe.steps} would hold for every subset; give schedule: steps and steps:")
    pool, test = _open("pool", plan.pool), _open("test", plan.test)
    for augmentation in plan.augmentations:
        if augmentation.words:
            _check_augmentation(augmentation)
    choosers = {arm.name: build_chooser(arm, pool) for arm in plan.methods}
    if any((chooser.snapshots or 1) > 1 for chooser in choosers.values()):
        from vlmsift.methods.tuning import refuse_short

        refuse_short(recipe, len(pool))
    cells = tuple(_cells(plan, len(pool), choosers))
    refuse_shared_images(pool, test)
    return Prepared(plan, pool, test, recipe, choosers, cells, tuple(_warnings(plan)))


def _open(key: str, data: PoolSpec | None) -> Pool:
    assert data is not None
    if not as_place(data.data).exists():
        raise UsageError(f"{key}: there is no file {str(data.data)!r}; give the path of a data set")
    return open_pool(data)


def build_chooser(arm: Arm, pool: Pool) -> Chooser:
    """How an arm chooses from the pool. Raises UsageError."""
    if arm.name in BUILT_IN:
        return Chooser()
    if arm.ids is not None:
        return Chooser(ids=_read_ids(arm, pool))
    if arm.signals is None and arm.config is None:
        from vlmsift.methods import METHODS

        if arm.name not in METHODS:
            known = ", ".join(dict.fromkeys([*BUILT_IN, *METHODS]))
            cure = f"choose among {known}, or give it signals, config or ids"
            raise UsageError(f"there is no method {arm.name!r}; {cure}")
        method = METHODS[arm.name]
        snapshots = None if method.training is None else method.training.snapshots
        return Chooser(method.build_signals(), method.build_selector(), snapshots)
    from vlmsift.methods.tuning import refuse_unmeasured
    from vlmsift.signals import build_signals
    from vlmsift.signals.config import load_config

    how: dict[str, Any] = {}
    if arm.config is not None:
        config = load_config(arm.config)
        signals, how = config.signals, {key: config.select[key] for key in config.select if key != "keep"}
    else:
        signals = build_signals(arm.signals or ())
    if arm.selector is not None:
        selector = build_selector(arm.selector)
        refuse_unmeasured(arm.name, selector, signals, (arm.snapshots or 1) > 1)
        return Chooser(signals, selector, arm.snapshots)
    how |= {key: value for key in ("by", "pick", "balance") if (value := getattr(arm, key)) is not None}
    how = {"by": next(iter(signals)), **how}
    if how["by"] not in signals:
        raise UsageError(f"{arm.name}: by={how['by']!r} is not among its signals, {', '.join(signals)}")
    return Chooser(signals, Top(**how), arm.snapshots)  # it refuses an unknown pick or balance


def _read_ids(arm: Arm, pool: Pool) -> tuple[str, ...]:
    """The ids that a draw is made from, as the file names them; each must be the pool's."""
    path = Path(str(arm.ids))
    try:
        text = path.read_text(encoding="utf-8")
        ids = json.loads(text) if text.lstrip().startswith("[") else [line.strip() for line in text.splitlines()]
    except (OSError, ValueError) as error:
        raise UsageError(f"{arm.name}: ids: {path} cannot be read ({error}); give one id per line") from error
    wanted, known = dict.fromkeys(str(name) for name in ids if name != ""), set(pool.ids)
    if unknown := [name for name in wanted if name not in known]:
        raise UsageError(f"{arm.name}: ids: {path} names {unknown[0]!r}, which is no sample of {pool.path}")
    return tuple(wanted)


def _cells(plan: Plan, rows: int, choosers: Mapping[str, Chooser]) -> Iterator[Cell]:
    """Every cell once; with equal steps of the full pool's number, the full pool's cell is that of equal epochs."""
    augmentations = {augmentation.name: augmentation for augmentation in plan.augmentations}
    for arm in plan.methods:
        ids = choosers[arm.name].ids
        once = arm.name == FULL and plan.steps is None
        for budget in ["100%"] if arm.name == FULL else map(str, arm.budgets or plan.budgets):
            keep = _rows_of(budget, rows)
            if ids is not None and len(ids) < keep:
                asked = f"{arm.name}: budget {budget!r} asks for {keep} samples, but only {len(ids)} ids are named"
                raise UsageError(f"{asked}; give this method budgets of its own")
            for schedule in ["epochs"] if once else plan.schedule:
                for name in arm.augmentations or augmentations:
                    for seed in plan.seeds:
                        yield Cell(arm.name, budget, keep, schedule, augmentations[name], seed)


def _rows_of(budget: str, rows: int) -> int:
    from vlmsift.choosing.budget import parse_keep

    try:
        keep = parse_keep(budget, rows)
    except UsageError as error:
        raise UsageError(f"budgets: {error}") from error
    if budget.endswith("%") and float(budget.rstrip("% ")) * rows / 100 < 1:
        raise UsageError(f"budgets: {budget!r} of {rows} samples keeps none: the cell would be empty; raise it")
    return keep


def _check_augmentation(augmentation: Augmentation) -> None:
    """Raises UsageError where `masked_states` would refuse the words whatever the model."""
    from vlmsift.augment import make_variant

    words = augmentation.words
    try:
        if own := [word for word in ("seed", "rankings") if word in words]:
            raise UsageError(f"{own[0]} is the cell's own; leave it out")
        make_variant(**words)
    except UsageError as error:
        raise UsageError(f"augmentations: {augmentation.name}: {error}") from error


def _warnings(plan: Plan) -> Iterator[str]:
    names = [arm.name for arm in plan.methods]
    if RANDOM in names and len(plan.seeds) < BAND_SEEDS:
        yield f"{len(plan.seeds)} seeds make no random band: give at least {BAND_SEEDS}"
    if RANDOM not in names:
        yield "without the method 'random' there is no band to compare with"
    if FULL not in names:
        yield "without the method 'full' there is no relative performance and no cost ratio"
    if all(augmentation.words for augmentation in plan.augmentations):
        yield f"every augmentation has a variant: add {{name: {NONE}}} for the comparison with none"
