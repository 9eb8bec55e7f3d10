"""The pool's signals for all methods of a plan. In: choosers, a scoring model. Out: per method a run and its price.

Methods share one run: settings of one signal that differ get columns of their own, and the first pass is paid once. A
finished run that is there already is used for every method whose signals it holds. Methods that follow a fine-tune on
the pool share one as well.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmsift import pipeline
from vlmsift.experiment.prepare import Chooser
from vlmsift.files import write_atomically
from vlmsift.runs.run import Run

if TYPE_CHECKING:
    from vlmsift.models import Adapter
    from vlmsift.pools import Pool
    from vlmsift.selectors import Selector
    from vlmsift.train import Recipe
    from vlmsift.train.data import EncodedData
    from vlmsift.types import Signal

Told = Callable[[pipeline.Progress], None]


@dataclass(frozen=True)
class Scored:
    """A method's signals.

    Attributes:
        selector: the method's, with the columns of this run.
        seconds: what scoring for this method alone takes, None where unknown: the run's seconds, times the method's
            forwards over those of the whole run, and those of a fine-tune, or of finding heads, where it needs that.
    """

    run: Run
    selector: Selector
    seconds: float | None


@dataclass(frozen=True)
class Tuned:
    """How checkpoints are made for methods that follow a fine-tune on the pool: by the plan's recipe, seed 0.

    Attributes:
        model: the scoring model. data: the pool. where: device and dtype. progress: as of `train`.
    """

    model: str
    data: Pool | EncodedData
    recipe: Recipe
    where: tuple[str, str]
    progress: Callable[[int, int, float], None] | None = None

    def checkpoints(self, folder: Path, snapshots: int) -> tuple[list[Path], float]:
        """The checkpoints, in order, and the seconds of the training that made them; found again where it is done."""
        from vlmsift.methods import Training
        from vlmsift.methods.tuning import checkpoints, fine_tuned

        device, dtype = self.where
        made = fine_tuned(
            self.data,
            self.model,
            folder,
            Training(snapshots, changes=asdict(self.recipe)),
            device=device,
            dtype=dtype,
            progress=self.progress,
        )
        return checkpoints(made), made.seconds


@dataclass(frozen=True)
class _Ground:
    """What a group of methods is scored on: a model, or checkpoints that took `seconds` to make."""

    pool: Pool
    model: Adapter | Sequence[Path]
    depth: int
    folder: Path
    progress: Told | None
    seconds: float = 0.0


def score_for(
    choosers: Mapping[str, Chooser],
    pool: Pool,
    model: Adapter,
    folder: Path,
    progress: Told | None = None,
    tuned: Tuned | None = None,
) -> dict[str, Scored]:
    """Score the pool for every chooser that needs signals; resumes. Several processes may call it at once.

    Raises:
        VlmsiftError: as `vlmsift.score` and `vlmsift.train.train`.
    """
    from filelock import FileLock

    wanted = {name: chooser for name, chooser in choosers.items() if chooser.selector is not None}
    if not wanted:
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "scoring.lock"):  # the system frees it with its process, however that ends
        found = _score(_of(wanted, None), _Ground(pool, model, model.depth, folder, progress))
        counts = sorted({one.snapshots for one in wanted.values() if one.snapshots is not None}, reverse=True)
        for count in counts:
            assert tuned is not None
            made_by = json.dumps([asdict(tuned.recipe), tuned.where, _weights(model), pool.fingerprint()])
            digest = hashlib.sha256(made_by.encode()).hexdigest()[:8]
            # the end of a training is the same whatever is kept on the way, so it may come from the others'
            kept = count if count > 1 else counts[0]
            models, seconds = tuned.checkpoints(folder / f"tuned-{digest}-{kept}", kept)
            models = models if count > 1 else models[-1:]
            place = folder / f"along-{digest}-{count}"
            found |= _score(_of(wanted, count), _Ground(pool, models, model.depth, place, progress, seconds))
    return found


def _of(choosers: Mapping[str, Chooser], snapshots: int | None) -> dict[str, Chooser]:
    return {name: chooser for name, chooser in choosers.items() if chooser.snapshots == snapshots}


def _weights(model: Adapter) -> str:
    from vlmsift.models.fingerprint import fingerprint

    return str(fingerprint(model)["weights"])


def _score(wanted: Mapping[str, Chooser], ground: _Ground) -> dict[str, Scored]:
    found: dict[str, Scored] = {}
    known = sorted(path.parent for path in ground.folder.glob("*/run.json"))
    runs = [run for path in known if _usable(run := Run(path, json.loads((path / "run.json").read_text())), ground)]
    settling: dict[str, float] = {}
    if not isinstance(ground.model, Sequence):
        recorded = [entry for run in runs for entry in run.settings["identity"]["signals"].values()]
        for name, chooser in wanted.items():
            started = time.perf_counter()
            signals = {column: signal.bind(ground.model, recorded) for column, signal in chooser.signals.items()}
            changed = [signal for signal in signals.values() if signal not in chooser.signals.values()]
            recorded += [{"signal": signal.name, "parameters": signal.parameters()} for signal in changed]
            settling |= dict.fromkeys(map(_key, changed), time.perf_counter() - started)
            wanted = {**wanted, name: replace(chooser, signals=signals)}
    for name, chooser in wanted.items():
        for run in runs:
            columns = _columns(run.settings["identity"]["signals"])
            if all(_key(signal) in columns for signal in chooser.signals.values()):
                found[name] = _scored(run, chooser, columns, ground)
                break
    missing = {name: chooser for name, chooser in wanted.items() if name not in found}
    if missing:
        signals = _union(missing.values())
        digest = hashlib.sha256("".join(sorted(_key(signal) for signal in signals.values())).encode()).hexdigest()[:8]
        made = _run(ground.folder / digest, signals, ground, settling)
        columns = _columns(made.settings["identity"]["signals"])
        found |= {name: _scored(made, chooser, columns, ground) for name, chooser in missing.items()}
    return found


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


def _columns(signals: Mapping[str, Any]) -> dict[str, str]:
    """Key of a signal -> its column, of a run's settings."""
    return {json.dumps([one["signal"], one["parameters"]], sort_keys=True): column for column, one in signals.items()}


def _usable(run: Run, ground: _Ground) -> bool:
    """Whether the run is of this pool and this model, and finished. Checkpoints have a folder of their own."""
    from vlmsift.models.fingerprint import fingerprint

    if len(run.finished_parts()) * run.part_size < run.pool_rows:
        return False
    identity, pool = run.settings["identity"], ground.pool
    data = {"fingerprint": pool.fingerprint(), "format": pool.format, "first_images": pipeline.fingerprint_images(pool)}
    ours = {} if isinstance(ground.model, Sequence) else fingerprint(ground.model)
    return bool(
        identity["data"] == data and all(identity["model"].get(key) == ours[key] for key in ours if key != "name")
    )


def _run(folder: Path, signals: Mapping[str, Signal], ground: _Ground, settling: Mapping[str, float]) -> Run:
    """Score, and note beside the run how long the whole of it takes at the pace of this start.

    Args:
        settling: seconds that a signal took before, by its key.
    """
    from vlmsift.signals import forwards

    seen: list[tuple[int, float]] = []
    fresh = not folder.exists()

    def tick(state: pipeline.Progress) -> None:
        seen.append((state.done, state.seconds))
        if ground.progress is not None:
            ground.progress(state)

    several = isinstance(ground.model, Sequence)
    run = pipeline.score(ground.pool, ground.model, folder, signals=signals, progress=tick)
    rows = seen[-1][0] - seen[0][0]
    if rows and (fresh or not several):  # what a later checkpoint has resumed is not told apart
        models = len(ground.model) if isinstance(ground.model, Sequence) else 1
        pace = {
            "seconds": seen[-1][1] / rows * len(ground.pool) * models,
            "forwards": forwards(signals.values(), ground.depth) * models,
            "settling": dict(settling),
        }
        text = json.dumps(pace)
        write_atomically(_clock(folder), lambda path: path.write_text(text, encoding="utf-8"))
    return run


def _clock(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.seconds.json")


def _scored(run: Run, chooser: Chooser, columns: Mapping[str, str], ground: _Ground) -> Scored:
    from vlmsift.signals import forwards

    assert chooser.selector is not None
    selector = chooser.selector.with_columns({name: columns[_key(signal)] for name, signal in chooser.signals.items()})
    try:
        pace = json.loads(_clock(run.folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Scored(run, selector, None)
    models = len(ground.model) if isinstance(ground.model, Sequence) else 1
    own = forwards(chooser.signals.values(), ground.depth) * models
    share = own / pace["forwards"] if pace["forwards"] else 1.0
    before = sum(pace.get("settling", {}).get(_key(signal), 0.0) for signal in chooser.signals.values())
    return Scored(run, selector, pace["seconds"] * share + before + ground.seconds)
