"""The pool's signals for all arms of a plan. In: choosers, a scoring model. Out: per arm a run and its price.

Methods share one run: settings of one signal that differ get columns of their own, and the first pass is paid once. A
finished run that is there already is used for every method whose signals it holds. Methods that follow a fine-tune on
the pool share one as well.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmsift.experiment.prepare import Chooser
from vlmsift.files import read_json, write_json
from vlmsift.folders import LocalFolder
from vlmsift.pools import Pool
from vlmsift.runs.checkpoints import checkpoints_of
from vlmsift.runs.run import Run
from vlmsift.scoring.job import fingerprint_images
from vlmsift.scoring.score import Progress as ScoringProgress
from vlmsift.scoring.score import score
from vlmsift.selectors import Selector
from vlmsift.specs import EngineSpec, ModelSpec
from vlmsift.types import Signal

if TYPE_CHECKING:
    from vlmsift.models import Adapter
    from vlmsift.train import Recipe
    from vlmsift.train.data import EncodedData

Progress = Callable[[ScoringProgress], None]


@dataclass(frozen=True)
class Scored:
    """A method's signals.

    What scoring for it alone takes: the run's seconds, times the method's forwards over those of the whole run, and
    the seconds of a fine-tune, or of finding heads, where it needs that.
    """

    run: Run
    selector: Selector  # the method's, with the columns of this run
    seconds: float | None  # for this method alone; None where unknown


@dataclass(frozen=True)
class Tuned:
    """How checkpoints are made for methods that follow a fine-tune on the pool: by the plan's recipe, seed 0."""

    model: ModelSpec  # the scoring one
    data: Pool | EncodedData
    recipe: Recipe
    progress: Callable[[int, int, float], None] | None = None  # as of `train`

    def checkpoints(self, folder: Path, snapshots: int) -> tuple[list[Path], float]:
        """The checkpoints, in order, and the seconds of the training that made them; found again where it is done."""
        from vlmsift.methods import Training
        from vlmsift.methods.tuning import check_tuning, checkpoints, fine_tune

        training = Training(snapshots, changes=asdict(self.recipe))
        made = fine_tune(check_tuning(self.data, self.model, folder, training), progress=self.progress)
        return checkpoints(made), made.seconds


@dataclass(frozen=True)
class _Ground:
    """What a group of methods is scored on."""

    pool: Pool
    model: Adapter | ModelSpec  # the latter: checkpoints of a fine-tune
    depth: int  # L, in layers
    folder: Path
    progress: Progress | None
    seconds: float = 0.0  # that the checkpoints took to make

    @property
    def models(self) -> int:
        """How many are scored."""
        return len(checkpoints_of(self.model.model)) if isinstance(self.model, ModelSpec) else 1

    @cached_property
    def identity(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Of the pool and of the model, as a run has them; checkpoints have a folder of their own, and so none."""
        from vlmsift.models.fingerprint import fingerprint

        pool, model = self.pool, {} if isinstance(self.model, ModelSpec) else fingerprint(self.model)
        data = {"fingerprint": pool.fingerprint(), "format": pool.format, "first_images": fingerprint_images(pool)}
        return data, {key: value for key, value in model.items() if key != "name"}


def score_for(
    choosers: Mapping[str, Chooser],
    pool: Pool,
    model: Adapter,
    folder: Path,
    progress: Progress | None = None,
    tuned: Tuned | None = None,
) -> dict[str, Scored]:
    """Score the pool for every chooser that needs signals; resumes. Several processes may call it at once.

    Raises:
        VlmsiftError: as `vlmsift.score` and `vlmsift.train.train`.
    """
    from filelock import FileLock

    from vlmsift.models.fingerprint import fingerprint

    wanted = {name: chooser for name, chooser in choosers.items() if chooser.selector is not None}
    if not wanted:
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "scoring.lock"):  # the system frees it with its process, however that ends
        groups: dict[int, dict[str, Chooser]] = {}  # snapshots, 0 = no fine-tune -> its methods
        for name, chooser in wanted.items():
            groups.setdefault(chooser.snapshots or 0, {})[name] = chooser
        scored = _score(groups.pop(0, {}), _Ground(pool, model, model.depth, folder, progress))
        counts = sorted(groups, reverse=True)
        for count in counts:
            assert tuned is not None
            where = [tuned.model.device, tuned.model.dtype]
            made_by = json.dumps([asdict(tuned.recipe), where, fingerprint(model)["weights"], pool.fingerprint()])
            digest = hashlib.sha256(made_by.encode()).hexdigest()[:8]
            kept = count if count > 1 else counts[0]  # a training's end is the same whatever is kept on the way
            models, seconds = tuned.checkpoints(folder / f"tuned-{digest}-{kept}", kept)
            along = replace(tuned.model, model=tuple(models if count > 1 else models[-1:]), revision=None)
            place = folder / f"along-{digest}-{count}"
            scored |= _score(groups[count], _Ground(pool, along, model.depth, place, progress, seconds))
    return scored


def _score(wanted: Mapping[str, Chooser], ground: _Ground) -> dict[str, Scored]:
    """Take runs that are there, and score what is missing into one more."""
    paths = sorted(ground.folder.glob("*/run.json"))
    runs = [run for path in paths if _usable(run := Run(LocalFolder(path.parent), read_json(path)), ground)]
    wanted, settling = _settle(wanted, ground, runs)
    scored: dict[str, Scored] = {}
    for run in runs:
        columns = _columns(run)
        for name, chooser in wanted.items():
            if name not in scored and all(_key(signal) in columns for signal in chooser.signals.values()):
                scored[name] = _scored(run, chooser, ground)
    missing = {name: chooser for name, chooser in wanted.items() if name not in scored}
    if missing:
        signals = _union(missing.values())
        digest = hashlib.sha256("".join(sorted(_key(signal) for signal in signals.values())).encode()).hexdigest()[:8]
        made = _run(ground.folder / digest, signals, ground, settling)
        scored |= {name: _scored(made, chooser, ground) for name, chooser in missing.items()}
    return scored


def _settle(
    wanted: Mapping[str, Chooser], ground: _Ground, runs: Iterable[Run]
) -> tuple[Mapping[str, Chooser], dict[str, float]]:
    """The choosers with signals that know their model, and the seconds that each signal took for that, by its key."""
    from vlmsift.scoring.feed import draw_batches

    settling: dict[str, float] = {}
    if isinstance(ground.model, ModelSpec):
        return wanted, settling
    draw = partial(draw_batches, ground.pool, ground.model)
    recorded = [entry for run in runs for entry in run.settings["identity"]["signals"].values()]
    for name, chooser in wanted.items():
        started = time.perf_counter()
        signals = {column: signal.bind(ground.model, recorded, draw) for column, signal in chooser.signals.items()}
        changed = [signal for signal in signals.values() if signal not in chooser.signals.values()]
        recorded += [{"signal": signal.name, "parameters": signal.parameters()} for signal in changed]
        settling |= dict.fromkeys(map(_key, changed), time.perf_counter() - started)
        wanted = {**wanted, name: replace(chooser, signals=signals)}
    return wanted, settling


def _union(choosers: Iterable[Chooser]) -> dict[str, Signal]:
    """Every signal once, under its first name, or that name with a number where another setting has it."""
    union: dict[str, Signal] = {}
    for chooser in choosers:
        for column, signal in chooser.signals.items():
            if _key(signal) in map(_key, union.values()):
                continue
            number, name = 2, column
            while name in union:
                name, number = f"{column}_{number}", number + 1
            union[name] = signal
    return union


def _key(signal: Signal) -> str:
    return json.dumps([signal.name, signal.parameters()], sort_keys=True)


def _columns(run: Run) -> dict[str, str]:
    """Key of a signal -> its column in the run."""
    signals = run.settings["identity"]["signals"]
    keys = {column: [entry["signal"], entry["parameters"]] for column, entry in signals.items()}
    return {json.dumps(key, sort_keys=True): column for column, key in keys.items()}


def _usable(run: Run, ground: _Ground) -> bool:
    """Whether the run is of all of this pool and of this model, and finished."""
    there, (data, model) = run.settings["identity"], ground.identity
    if len(run.finished_parts()) * run.part_size < run.pool_rows or "asked" in there:
        return False
    return bool(there["data"] == data) and all(there["model"].get(key) == value for key, value in model.items())


def _run(folder: Path, signals: Mapping[str, Signal], ground: _Ground, settling: Mapping[str, float]) -> Run:
    """Score, and note beside the run how long the whole of it takes at the pace of this start."""
    from vlmsift.signals import forwards

    seen: list[tuple[int, float]] = []  # rows done, seconds
    fresh = not folder.exists()

    def tick(state: ScoringProgress) -> None:
        seen.append((state.done, state.seconds))
        if ground.progress is not None:
            ground.progress(state)

    alone = EngineSpec().alone()  # the cells are what is shared
    run = score(ground.pool, ground.model, folder, signals=signals, engine=alone, progress=tick)
    rows = seen[-1][0] - seen[0][0]
    if rows and (fresh or ground.models == 1):  # what a later checkpoint has resumed is not told apart
        whole = seen[-1][1] / rows * len(ground.pool) * ground.models  # seconds
        cost = forwards(signals.values(), ground.depth) * ground.models
        write_json(_clock(folder), {"seconds": whole, "forwards": cost, "settling": dict(settling)})
    return run


def _clock(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.seconds.json")


def _scored(run: Run, chooser: Chooser, ground: _Ground) -> Scored:
    from vlmsift.signals import forwards

    assert chooser.selector is not None
    columns = _columns(run)
    selector = chooser.selector.with_columns({name: columns[_key(signal)] for name, signal in chooser.signals.items()})
    told = 0.0
    if selector.asks_share and not isinstance(ground.model, ModelSpec):
        from vlmsift.plants.share import tell_share

        told = tell_share(run, ground.pool, ground.model).seconds
    try:
        pace = json.loads(_clock(run.folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Scored(run, selector, None)
    own = forwards(chooser.signals.values(), ground.depth) * ground.models
    share = own / pace["forwards"] if pace["forwards"] else 1.0  # of a run that only draws
    before = sum(pace.get("settling", {}).get(_key(signal), 0.0) for signal in chooser.signals.values())
    return Scored(run, selector, pace["seconds"] * share + before + ground.seconds + told)
