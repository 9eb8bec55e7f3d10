"""All that can be known before anything is loaded. In: a plan. Out: open pools, checked methods and cells; or an error.

The test set must share no image with the pool: a model that was trained on a picture is not tested on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmsift.errors import SampleError, UsageError
from vlmsift.experiment.plan import BAND_SEEDS, BUILT_IN, FULL, NONE, RANDOM, Augmentation, Data, Method, Plan

if TYPE_CHECKING:
    from vlmsift.pools import Pool
    from vlmsift.selectors import Selector
    from vlmsift.train import Recipe
    from vlmsift.types import ImageRef, Signal

SHOWN = 5


@dataclass(frozen=True)
class Chooser:
    """How a method chooses.

    Attributes:
        signals: column -> signal that the pool is scored with.
        selector: chooses by them; None for draws, of which each seed makes one of its own.
        snapshots: the signals are of so many checkpoints of a fine-tune on the pool; None = of the scoring model.
        ids: what is drawn from, None = everything.
    """

    signals: Mapping[str, Signal] = field(default_factory=dict)
    selector: Selector | None = None
    snapshots: int | None = None
    ids: tuple[str, ...] | None = None


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


@dataclass(frozen=True)
class Prepared:
    """A plan with its pools open. `warnings` are sentences for the report."""

    plan: Plan
    pool: Pool
    test: Pool
    recipe: Recipe
    choosers: Mapping[str, Chooser]
    cells: tuple[Cell, ...]
    warnings: tuple[str, ...]


def prepare(plan: Plan) -> Prepared:
    """Check everything in a plan that needs no model.

    Raises:
        UsageError: an unknown method, signal, recipe or augmentation, a missing file, a budget that keeps nothing, or a
            test set that shares images with the pool. FormatError: a data set that cannot be read.
    """
    from vlmsift.train import recipe_of

    assert plan.pool is not None
    assert plan.test is not None
    changes = {key: value for key, value in plan.recipe.items() if key != "name"}
    recipe = recipe_of(str(plan.recipe.get("name", "llava-1.5")), changes)
    if recipe.steps is not None:
        raise UsageError(f"recipe: steps={recipe.steps} would hold for every subset; give schedule: steps and steps:")
    for key in ("pool", "test"):
        path = getattr(plan, key).data
        if not Path(path).exists():
            raise UsageError(f"{key}: there is no file {path!r}; give the path of a data set")
    pool, test = _open(plan.pool), _open(plan.test)
    for one in plan.augmentations:
        _check_augmentation(one)
    choosers = {one.name: _chooser(one, pool) for one in plan.methods}
    cells = tuple(_cells(plan, len(pool), choosers))
    if shared := shared_images(pool, test):
        names = ", ".join(f"{theirs} (in the pool {ours})" for theirs, ours in shared[:SHOWN])
        more = f" and {len(shared) - SHOWN} more" if len(shared) > SHOWN else ""
        raise UsageError(
            f"{len(shared)} images of the test set {test.path} are in the pool {pool.path} as well: {names}{more}. "
            "Take their samples out of one of the two"
        )
    return Prepared(plan, pool, test, recipe, choosers, cells, tuple(_warnings(plan)))


def _open(data: Data) -> Pool:
    from vlmsift.pools import open_pool

    return open_pool(data.data, images=data.images, format=data.format, source_field=data.source_field)


def _chooser(method: Method, pool: Pool) -> Chooser:
    if method.name in BUILT_IN:
        return Chooser()
    if method.ids is not None:
        return Chooser(ids=_read_ids(method, pool))
    if method.signals is None and method.config is None:
        from vlmsift.methods import METHODS

        if method.name not in METHODS:
            known = ", ".join(dict.fromkeys([*BUILT_IN, *METHODS]))
            raise UsageError(
                f"there is no method {method.name!r}; choose among {known}, or give it signals, config or ids"
            )
        found = METHODS[method.name]
        snapshots = None if found.training is None else found.training.snapshots
        return Chooser(found.build_signals(), found.build_selector(), snapshots)
    from vlmsift.methods.tuning import refuse_unmeasured
    from vlmsift.selectors import Top, build_selector
    from vlmsift.signals import build_signals
    from vlmsift.signals.config import load_config

    how: dict[str, Any] = {}
    if method.config is not None:
        config = load_config(method.config)
        signals, how = config.signals, {key: config.select[key] for key in config.select if key != "keep"}
    else:
        signals = build_signals(method.signals or [])
    if method.selector is not None:
        selector = build_selector(method.selector)
        refuse_unmeasured(method.name, selector, signals, (method.snapshots or 1) > 1)
        return Chooser(signals, selector, method.snapshots)
    how |= {key: value for key in ("by", "pick", "balance") if (value := getattr(method, key)) is not None}
    how = {"by": next(iter(signals)), **how}
    if how["by"] not in signals:
        raise UsageError(f"{method.name}: by={how['by']!r} is not among its signals, {', '.join(signals)}")
    return Chooser(signals, Top(**how), method.snapshots)  # it refuses an unknown pick or balance


def _read_ids(method: Method, pool: Pool) -> tuple[str, ...]:
    """The ids that a draw is made from, as the file names them; each must be the pool's."""
    path = Path(str(method.ids))
    try:
        text = path.read_text(encoding="utf-8")
        ids = json.loads(text) if text.lstrip().startswith("[") else [line.strip() for line in text.splitlines()]
    except (OSError, ValueError) as error:
        raise UsageError(f"{method.name}: ids: {path} cannot be read ({error}); give one id per line") from error
    wanted, known = dict.fromkeys(str(one) for one in ids if one != ""), set(pool.ids)
    if unknown := [one for one in wanted if one not in known]:
        raise UsageError(f"{method.name}: ids: {path} names {unknown[0]!r}, which is no sample of {pool.path}")
    return tuple(wanted)


def _cells(plan: Plan, rows: int, choosers: Mapping[str, Chooser]) -> Iterator[Cell]:
    """Every cell once; with equal steps of the full pool's number, the full pool's cell is that of equal epochs."""
    from vlmsift.choosing.budget import parse_keep

    by_name = {one.name: one for one in plan.augmentations}
    for method in plan.methods:
        budgets = ["100%"] if method.name == FULL else method.budgets or plan.budgets
        schedules = list(plan.schedule)
        if method.name == FULL and plan.steps is None:
            schedules = ["epochs"]
        for budget in budgets:
            try:
                keep = parse_keep(budget, rows)
            except UsageError as error:
                raise UsageError(f"budgets: {error}") from error
            if budget.endswith("%") and float(budget.rstrip("% ")) * rows / 100 < 1:
                raise UsageError(f"budgets: {budget!r} of {rows} samples keeps none: the cell would be empty; raise it")
            ids = choosers[method.name].ids
            if ids is not None and len(ids) < keep:
                raise UsageError(
                    f"{method.name}: budget {budget!r} asks for {keep} samples, but only {len(ids)} ids are named; "
                    "give this method budgets of its own"
                )
            for schedule in schedules:
                for name in method.augmentations or by_name:
                    for seed in plan.seeds:
                        yield Cell(method.name, budget, keep, schedule, by_name[name], seed)


def _check_augmentation(augmentation: Augmentation) -> None:
    """Raises UsageError where `masked_states` would refuse the words whatever the model."""
    words = augmentation.words
    if not words:
        return
    from vlmsift.augment import VARIANTS, make_variant

    where = f"augmentations: {augmentation.name}:"
    if words["variant"] not in VARIANTS:
        raise UsageError(f"{where} there is no variant {words['variant']!r}; choose among {', '.join(VARIANTS)}")
    for word in ("seed", "rankings"):
        if word in words:
            raise UsageError(f"{where} {word} is the cell's own; leave it out")
    try:
        make_variant(**words)
    except UsageError as error:
        raise UsageError(f"{where} {error}") from error


def _warnings(plan: Plan) -> Iterator[str]:
    names = [one.name for one in plan.methods]
    if RANDOM in names and len(plan.seeds) < BAND_SEEDS:
        yield f"{len(plan.seeds)} seeds make no random band: give at least {BAND_SEEDS}"
    if RANDOM not in names:
        yield "without the method 'random' there is no band to compare with"
    if FULL not in names:
        yield "without the method 'full' there is no relative performance and no cost ratio"
    if all(one.words for one in plan.augmentations):
        yield f"every augmentation has a variant: add {{name: {NONE}}} for the comparison with none"


def shared_images(pool: Pool, test: Pool) -> list[tuple[str, str]]:
    """Pairs (image of the test set, the same image in the pool), by the hash of the encoded bytes.

    Bytes are read only where a pool's and a test's image have the same size.
    """
    sizes: dict[int, dict[ImageRef, str]] = {}
    for ref, sample, size in _images(test):
        sizes.setdefault(size, {}).setdefault(ref, sample)
    alike: dict[int, dict[ImageRef, str]] = {}
    for ref, sample, size in _images(pool):
        if size in sizes:
            alike.setdefault(size, {}).setdefault(ref, sample)
    found = []
    for size, theirs in alike.items():
        digests = {_digest(ref, pool): _shown(ref, sample) for ref, sample in theirs.items()}
        for ref, sample in sizes[size].items():
            if (digest := _digest(ref, test)) in digests:
                found.append((_shown(ref, sample), digests[digest]))
    return sorted(found)


def _images(pool: Pool) -> Iterator[tuple[Any, str, int]]:
    """Image, its sample's id, its size in bytes; what cannot be read is left to the training to tell."""
    for index in range(len(pool)):
        try:
            sample = pool[index]
        except SampleError:
            continue
        for ref in sample.images:
            try:
                yield ref, sample.id, len(ref) if isinstance(ref, bytes) else (pool.image_root / ref).stat().st_size
            except (OSError, ValueError):
                continue


def _digest(ref: ImageRef, pool: Pool) -> bytes:
    return hashlib.sha256(ref if isinstance(ref, bytes) else (pool.image_root / ref).read_bytes()).digest()


def _shown(ref: ImageRef, sample: str) -> str:
    return f"the image of {sample!r}" if isinstance(ref, bytes) else repr(ref)
