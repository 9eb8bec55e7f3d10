"""A pool and a model -> a run folder of signals; several checkpoints -> one run along them."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmsift.errors import RunMismatch, StoreError, UsageError
from vlmsift.folders import open_folder
from vlmsift.runs.beginning import drop_parts, recorded
from vlmsift.runs.checkpoints import join
from vlmsift.runs.record import INSIDE
from vlmsift.runs.run import Run
from vlmsift.scoring.job import ScoreJob, check_score
from vlmsift.specs import EngineSpec, ModelSpec, PoolSpec

if TYPE_CHECKING:
    from vlmsift.models import Adapter
    from vlmsift.pools import Pool
    from vlmsift.types import Signal


@dataclass
class Progress:
    """Where a run stands; handed to the `progress` callback at the start and after every batch."""

    total: int  # rows of the pool, or those of them that are asked
    done: int = 0  # rows finished, earlier starts included
    errors: int = 0  # error rows of this start
    waited: float = 0.0  # seconds that the model waited for samples
    seconds: float = 0.0  # since the start
    mine: int = 0  # rows that this start has measured; what others did meanwhile is in `done`
    notes: tuple[str, ...] = ()  # sentences on processes that had to be started again


def score(
    pool: str | Path | PoolSpec | Pool,
    model: str | Path | ModelSpec | Adapter | Sequence[str | Path],
    out: str | Path,
    *,
    signals: Sequence[str] | Mapping[str, Signal] | None = None,
    config: str | Path | None = None,
    where: str | None = None,
    of: str | Path | Run | None = None,
    engine: EngineSpec | None = None,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Measure signals of every sample of a pool and keep them in the folder `out`; resumes a run that was stopped.

    Several models are checkpoints of one training, in order: each is scored into a run of its own inside `out`, and a
    signal becomes a vector of T numbers, one per checkpoint.

    Args:
        pool: a file or folder of samples, a spec with its image folder and format, or an open pool.
        model: a folder or hub name, a spec with device and precision, or an open adapter; several, or a folder of
            step-N or checkpoint-N folders, for checkpoints.
        signals: words as on the command line, e.g. "delta_attnmask:depth=0.25"; or column -> signal; None = the default
            set.
        config: a file that `calibrate` wrote, in place of `signals`.
        where, of: measure only the rows of an earlier run on the same pool that fulfil an SQL condition over its
            columns (see `query.matching`). The others have the status "not asked", and are never selected.
        engine: batches, worker processes, rows per file.

    Raises:
        UsageError, FormatError, UnsupportedModel: with what to change.
        RunMismatch: `out` holds a run with other parameters, other data or another model, or `of` one of other data.
    """
    how: dict[str, Any] = {"signals": signals, "config": config, "where": where, "of": of}
    job = check_score(pool, model, out, **how, engine=engine, overwrite=overwrite)
    return run_score(job, progress)


def run_score(job: ScoreJob, progress: Callable[[Progress], None] | None = None) -> Run:
    """Carry a checked scoring out: here, or in processes of its own, as its engine says."""
    from vlmsift.models import open_model

    if job.engine.spreads:
        if job.engine.engine == "ray":
            from vlmsift.scoring.ray_actors import score_on_ray as spread
        else:
            from vlmsift.scoring.devices import score_on_devices as spread
        spread(job, progress)
        return Run.open(job.out)
    if len(job.models) > 1 and job.overwrite:  # first of all: stopped half-way, nothing old may be taken for new
        drop_parts(job.out)
    told = None if progress is None else TotalProgress(progress, len(job.models))
    runs: list[Run] = []
    for number, name in enumerate(job.models):
        alone = len(job.models) == 1
        folder = job.out if alone else open_folder(job.out).inside(f"{INSIDE}/{number + 1:02d}").place
        adapter = name if job.model is None else open_model(replace(job.model, model=name))
        runs.append(_score_with(job, adapter, folder, runs, told))
        del adapter  # before the next is opened
        if told is not None:
            told.before = told.last
    return runs[0] if len(runs) == 1 else join(runs, job.out, overwrite=job.overwrite)


@dataclass
class TotalProgress:
    """Progress over several models as if they were one pool."""

    progress: Callable[[Progress], None]
    models: int
    before: Progress = field(default_factory=lambda: Progress(0))  # where the models before stood in the end
    last: Progress = field(default_factory=lambda: Progress(0))

    def __call__(self, state: Progress) -> None:
        names = ("done", "errors", "waited", "seconds", "mine")
        sums: dict[str, Any] = {name: getattr(self.before, name) + getattr(state, name) for name in names}
        self.last = Progress(self.models * state.total, **sums)
        self.progress(self.last)


def _score_with(
    job: ScoreJob,
    model: Adapter,
    out: str | Path,
    before: Sequence[Run],
    progress: Callable[[Progress], None] | None,
) -> Run:
    """Score one open model, which must not be one of the runs `before`."""
    from vlmsift.models import prepare_for
    from vlmsift.pools import open_image
    from vlmsift.scoring.batches import Scorer
    from vlmsift.scoring.feed import Feed
    from vlmsift.scoring.parts import Parts

    settings, chosen = _settings(job, model, out, before)
    try:
        run = Run.create_or_resume(out, settings, overwrite=job.overwrite)
    except StoreError:
        raise
    except OSError as error:
        raise UsageError(f"no run can be written to {out} ({error.strerror}); name another folder for it") from error
    parts = Parts(run, job.shard, job.asked)
    measured = parts.look()
    taken, ahead = tee(parts)  # the feed is ahead of the model
    missing = job.count - parts.rows_done
    workers = job.engine.workers
    workers = min(8, max(1, (os.cpu_count() or 2) - 1)) if workers is None else workers
    encoder = model.encoder(partial(open_image, root=job.pool.image_root))
    indices = (index for part in ahead for index in parts.rows_of(part))
    feed = Feed(job.pool, encoder, indices, min(workers, missing), prepare_for(model))
    state, started = Progress(job.count), time.perf_counter()
    under_way: list[int] = []  # rows of the part that is measured now

    def tick(done: int, errors: int) -> None:
        under_way.append(done)
        state.done = max(state.done, parts.rows_done + sum(under_way))
        state.mine, state.errors = state.mine + done, state.errors + errors
        state.waited, state.seconds = scorer.waited, time.perf_counter() - started
        if progress is not None:
            progress(state)

    budget = job.engine.budget(model.device.type)
    scorer = Scorer(model, encoder, chosen, budget, tick, run.note_proof, measured, gather=feed.workers > 0)
    tick(0, 0)
    sizes, written = tee(taken)
    for columns in scorer.parts(iter(feed), (len(parts.rows_of(part)) for part in sizes)):
        part = next(written)
        run.write_part(part, columns if job.asked is None else job.asked.fill(run.rows_of(part), columns))
        parts.note({part})
        under_way.clear()
    parts.check()
    return run


def _settings(job: ScoreJob, model: Adapter, out: str | Path, before: Sequence[Run]) -> tuple[Any, Any]:
    """What a run records (its identity, which changes when a number would, and more), and the signals, bound."""
    from vlmsift.models import special_ids
    from vlmsift.models.fingerprint import fingerprint
    from vlmsift.scoring.batches import column_of
    from vlmsift.scoring.feed import draw_batches
    from vlmsift.signals import forwards

    made_by = {**fingerprint(model), "name": _short(model.name)}
    if (images := getattr(model.processor, "image_processor", None)) is not None:
        made_by["image_processor"] = type(images).__name__  # one with torchvision, one without: they scale otherwise
    for run in before:
        if run.settings["identity"]["model"]["weights"] == made_by["weights"]:
            twin = run.settings["info"]["model"]
            raise RunMismatch(f"{model.name} has the same weights as {twin}; give each checkpoint once")
    known = [] if job.overwrite else list(recorded(out).get("signals", {}).values())
    draw = partial(draw_batches, job.pool, model)
    chosen = {column: signal.bind(model, known, draw) for column, signal in job.signals.items()}
    identity = {
        "model": made_by,
        "data": job.data,
        "rows": len(job.pool),
        "part_size": job.part_size,
        **({} if job.asked is None else {"asked": job.asked.identity()}),
        "signals": {
            column: {
                "signal": signal.name,
                "parameters": signal.parameters(),
                **column_of(signal, model),
                "unit": signal.unit,
                "higher_means": signal.higher_means,
            }
            for column, signal in chosen.items()
        },
    }
    info = {
        "model": model.name,
        "pool": str(job.pool.path.resolve()),
        "images": str(job.pool.image_root.resolve()),
        "device": str(model.device),
        "parameters": sum(weight.numel() for weight in model.model.parameters()),
        "forwards": round(forwards(chosen.values(), model.depth), 4),  # of text, per sample
        "source_field": job.pool.source_field,
        "tokens_per_batch": job.engine.budget(model.device.type),
        **({} if job.asked is None else {"of": job.asked.of.place}),
        # so that a training can mask the same tokens, see `masked_states(like=...)`
        "special_ids": " ".join(map(str, special_ids(model.processor.tokenizer, model.image_token_id))),
        "versions": _versions(),
    }
    return {"identity": identity, "info": info, "worker": {"shard": str(job.shard)}}, chosen


def _short(name: str) -> str:
    """A local model by its folder's name, so that a run may be resumed from elsewhere; a hub name as it is."""
    return Path(name).resolve().name if Path(name).is_dir() else name


def _versions() -> dict[str, str]:
    """What the numbers were made with."""
    found = {"python": platform.python_version()}
    for name in ("vlmsift", "torch", "transformers", "tokenizers", "pillow", "torchvision"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
