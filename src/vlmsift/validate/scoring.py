"""The pool's signals for all methods of a plan. In: choosers, a scoring model. Out: per method a run and its price.

Methods share one run: settings of one signal that differ get columns of their own, and the first pass is paid once. A
finished run that is there already is used for every method whose signals it holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmsift import pipeline
from vlmsift.store import Run, write_atomically
from vlmsift.validate.prepare import Chooser

if TYPE_CHECKING:
    from vlmsift.formats import Pool
    from vlmsift.models import Adapter
    from vlmsift.types import Signal


@dataclass(frozen=True)
class Scored:
    """A method's signals.

    Attributes:
        how: arguments of `select` for this run, with its columns.
        seconds: what scoring for this method alone takes, None where unknown: the run's seconds, times the method's
            forwards over those of the whole run.
    """

    run: Run
    how: Mapping[str, str]
    seconds: float | None


def score_for(
    choosers: Mapping[str, Chooser],
    pool: Pool,
    model: Adapter,
    folder: Path,
    progress: Callable[[pipeline.Progress], None] | None = None,
) -> dict[str, Scored]:
    """Score the pool for every chooser that needs signals; resumes. Several processes may call it at once.

    Raises:
        VlmsiftError: as `vlmsift.score`.
    """
    from filelock import FileLock

    wanted = {name: chooser for name, chooser in choosers.items() if not chooser.draws}
    if not wanted:
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "scoring.lock"):  # the system frees it with its process, however that ends
        return _score(wanted, pool, model, folder, progress)


def _score(wanted: Mapping[str, Chooser], pool: Pool, model: Adapter, folder: Path, progress: Any) -> dict[str, Scored]:
    found: dict[str, Scored] = {}
    known = sorted(path.parent for path in folder.glob("*/run.json"))
    runs = [
        run for path in known if _usable(run := Run(path, json.loads((path / "run.json").read_text())), pool, model)
    ]
    for name, chooser in wanted.items():
        for run in runs:
            columns = _columns(run.settings["identity"]["signals"])
            if all(_key(signal) in columns for signal in chooser.signals.values()):
                found[name] = _scored(run, chooser, columns, model)
                break
    missing = {name: chooser for name, chooser in wanted.items() if name not in found}
    if missing:
        signals = _union(missing.values())
        digest = hashlib.sha256("".join(sorted(_key(signal) for signal in signals.values())).encode()).hexdigest()[:8]
        made = _run(folder / digest, signals, pool, model, progress)
        columns = _columns(made.settings["identity"]["signals"])
        found |= {name: _scored(made, chooser, columns, model) for name, chooser in missing.items()}
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
    from vlmsift.signals import parameters

    return json.dumps([signal.name, parameters(signal)], sort_keys=True)


def _columns(signals: Mapping[str, Any]) -> dict[str, str]:
    """Key of a signal -> its column, of a run's settings."""
    return {json.dumps([one["signal"], one["parameters"]], sort_keys=True): column for column, one in signals.items()}


def _usable(run: Run, pool: Pool, model: Adapter) -> bool:
    """Whether the run is of this pool and this model, and finished."""
    from vlmsift.models.fingerprint import fingerprint

    if len(run.finished_parts()) * run.part_size < run.pool_rows:
        return False
    identity, ours = run.settings["identity"], fingerprint(model)
    theirs = {"fingerprint": pool.fingerprint(), "format": pool.format, "first_images": pipeline.look_at_images(pool)}
    return bool(
        identity["data"] == theirs and all(identity["model"][key] == ours[key] for key in ours if key != "name")
    )


def _run(folder: Path, signals: Mapping[str, Signal], pool: Pool, model: Adapter, progress: Any) -> Run:
    """Score, and note beside the run how long the whole of it takes at the pace of this start."""
    from vlmsift.calibrate.grid import forwards

    seen: list[tuple[int, float]] = []

    def tick(state: pipeline.Progress) -> None:
        seen.append((state.done, state.seconds))
        if progress is not None:
            progress(state)

    run = pipeline.score(pool, model, folder, signals=signals, progress=tick)
    rows = seen[-1][0] - seen[0][0]
    if rows:
        pace = {"seconds": seen[-1][1] / rows * len(pool), "forwards": forwards(signals.values(), model.depth)}
        text = json.dumps(pace)
        write_atomically(_clock(folder), lambda path: path.write_text(text, encoding="utf-8"))
    return run


def _clock(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.seconds.json")


def _scored(run: Run, chooser: Chooser, columns: Mapping[str, str], model: Adapter) -> Scored:
    from vlmsift.calibrate.grid import forwards

    own = {column: columns[_key(signal)] for column, signal in chooser.signals.items()}
    how = {**chooser.how, "by": own[chooser.how["by"]], "vector": own.get("hidden_mean", "hidden_mean")}
    try:
        pace = json.loads(_clock(run.folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Scored(run, how, None)
    return Scored(run, how, pace["seconds"] * forwards(chooser.signals.values(), model.depth) / pace["forwards"])
