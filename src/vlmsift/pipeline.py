"""Joins the stages: a pool and a model -> a run folder of signals -> a selection -> an exported file.

These functions are the library's front door; the command line calls nothing else.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmsift.checkpoints import checkpoints_of, join, look_at, refuse_other_models
from vlmsift.errors import RunMismatch, SampleError, UsageError
from vlmsift.selectors.saved import Decided
from vlmsift.store import INSIDE, Run, recorded

if TYPE_CHECKING:
    from vlmsift.formats import Pool
    from vlmsift.models import Adapter
    from vlmsift.selectors import Selector
    from vlmsift.types import ImageRef, Signal


@dataclass
class Progress:
    """Where a run stands; handed to the `progress` callback at the start and after every batch.

    Attributes:
        done: rows finished, earlier starts included. total: rows of the pool.
        errors: error rows of this start. waited: seconds that the model waited for samples. seconds: since the start.
    """

    total: int
    done: int = 0
    errors: int = 0
    waited: float = 0.0
    seconds: float = 0.0


PART_SIZE = 512


def score(
    pool: str | Path | Pool,
    model: str | Path | Adapter | Sequence[str | Path],
    out: str | Path,
    *,
    signals: Sequence[str] | Mapping[str, Signal] | None = None,
    config: str | Path | None = None,
    images: str | Path | None = None,
    format: str | None = None,
    source_field: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    chat_template: str | None = None,
    trust_remote_code: bool = False,
    tokens_per_batch: int = 8192,
    workers: int | None = None,
    part_size: int = PART_SIZE,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Measure signals of every sample of a pool and keep them in the folder `out`; resumes a run that was stopped.

    Several models are checkpoints of one training, in order: each is scored into a run of its own inside `out`, and a
    signal becomes a vector of T numbers, one per checkpoint.

    Args:
        pool: a file or folder of samples, or an open pool.
        model: a folder or hub name, or an open adapter; several, or a folder of step-N or checkpoint-N folders, for
            checkpoints.
        signals: words as on the command line, e.g. "delta_attnmask:depth=0.25"; or column -> signal; None = the default
            set.
        config: a file that `calibrate` wrote, in place of `signals`.
        workers: processes that read and encode; None = all cores but one, at least 1, at most 8.
        part_size: pool rows per file; a killed run loses at most one part's work.

    Raises:
        UsageError, FormatError, UnsupportedModel: with what to change.
        RunMismatch: `out` holds a run with other parameters, other data or another model.
    """
    from vlmsift.formats import open_pool

    for name, number in (("tokens_per_batch", tokens_per_batch), ("part_size", part_size)):
        if number < 1:
            raise UsageError(f"{name}={number} must be at least 1")
    if workers is not None and workers < 0:
        raise UsageError(f"workers={workers} must be 0 (read and encode in this process) or more")
    if config is not None and signals is not None:
        raise UsageError(f"config={str(config)!r} names the signals already; give it or signals, not both")
    if isinstance(pool, (str, Path)):
        pool = open_pool(pool, images=images, format=format, source_field=source_field)
    models = checkpoints_of(model)
    if len(models) > 1:
        look_at(out, len(models), overwrite)
    first_images = look_at_images(pool)

    # only now the imports that take seconds: a wrong path is told at once
    from vlmsift.models import open_model
    from vlmsift.signals import DEFAULT_SIGNALS, build_signals
    from vlmsift.signals.config import load_config

    if config is not None:
        chosen = load_config(config).signals
    elif isinstance(signals, Mapping):
        chosen = dict(signals)
    else:
        chosen = build_signals(list(DEFAULT_SIGNALS if signals is None else signals))
    if len(models) > 1:
        if vectors := [column for column, signal in chosen.items() if hasattr(signal, "width")]:
            raise UsageError(
                f"{vectors[0]!r} is a vector already, and several models are given; follow a number over them, as "
                "trajectory=image_spectrum"
            )
        refuse_other_models(models, revision, trust_remote_code)
    info = {"source_field": source_field, "tokens_per_batch": tokens_per_batch}
    tick = None if progress is None else _InTurn(progress, len(models))
    runs = []
    for number, one in enumerate(models):
        folder = Path(out) if len(models) == 1 else Path(out) / INSIDE / f"{number + 1:02d}"
        if isinstance(one, (str, Path)):
            one = open_model(
                one,
                device=device,
                dtype=dtype,
                revision=revision,
                chat_template=chat_template,
                trust_remote_code=trust_remote_code,
            )
        runs.append(_score_one(pool, one, folder, chosen, first_images, info, workers, part_size, overwrite, tick))
        del one  # before the next is opened
        if tick is not None:
            tick.before = tick.last
    return runs[0] if len(runs) == 1 else join(runs, out, overwrite=overwrite)


@dataclass
class _InTurn:
    """Progress over several models as if they were one pool."""

    progress: Callable[[Progress], None]
    models: int
    before: Progress = field(default_factory=lambda: Progress(0))
    last: Progress = field(default_factory=lambda: Progress(0))

    def __call__(self, state: Progress) -> None:
        before = self.before
        self.last = Progress(
            self.models * state.total,
            before.done + state.done,
            before.errors + state.errors,
            before.waited + state.waited,
            before.seconds + state.seconds,
        )
        self.progress(self.last)


def _score_one(
    pool: Pool,
    model: Adapter,
    out: Path,
    chosen: dict[str, Signal],
    first_images: str | None,
    more: Mapping[str, Any],
    workers: int | None,
    part_size: int,
    overwrite: bool,
    progress: Callable[[Progress], None] | None,
) -> Run:
    """`score` for one open model; `more` goes to the run's info."""
    import os
    import time

    from vlmsift.engines.feed import Feed
    from vlmsift.engines.local import Scorer, signal_width
    from vlmsift.formats import open_image
    from vlmsift.models.fingerprint import fingerprint
    from vlmsift.passes.capture import Capture
    from vlmsift.signals import parameters, settled

    chosen = settled(chosen, model, [] if overwrite else recorded(out))
    identity = {
        "model": {**fingerprint(model), "name": _short(model.name)},
        "data": {"fingerprint": pool.fingerprint(), "format": pool.format, "first_images": first_images},
        "rows": len(pool),
        "part_size": part_size,
        "signals": {
            column: {
                "signal": signal.name,
                "parameters": parameters(signal),
                "width": signal_width(signal, model),
                "unit": signal.unit,
                "higher_means": signal.higher_means,
            }
            for column, signal in chosen.items()
        },
    }
    info = {
        "model": model.name,
        "pool": str(pool.path.resolve()),
        "images": str(pool.image_root.resolve()),
        "device": str(model.device),
        **more,
        "versions": _versions(),
    }
    try:
        run = Run.create_or_resume(out, {"identity": identity, "info": info}, overwrite=overwrite)
    except OSError as error:
        raise UsageError(f"no run can be written to {out} ({error.strerror}); name another folder for it") from error
    parts = -(-len(pool) // part_size)
    wanted = sorted(set(range(parts)) - run.finished_parts())
    ranges = [range(part * part_size, min((part + 1) * part_size, len(pool))) for part in wanted]
    if workers is None:
        workers = min(8, max(1, (os.cpu_count() or 2) - 1))
    encoder = model.encoder(partial(open_image, root=pool.image_root))
    feed = Feed(pool, encoder, [index for rows in ranges for index in rows], workers)
    state, started = Progress(len(pool), len(pool) - len(feed.indices)), time.perf_counter()
    # a stretch of failures right after a resume says nothing against a model that has measured samples before
    proven = bool(run.finished_parts()) and run.summary()["ok"] > 0

    def tick(rows: int, errors: int) -> None:
        state.done, state.errors = state.done + rows, state.errors + errors
        state.waited, state.seconds = feed.waited, time.perf_counter() - started
        if progress is not None:
            progress(state)

    tick(0, 0)
    with Capture(model) as capture:
        scorer = Scorer(capture, encoder, chosen, more["tokens_per_batch"], tick, proven)
        for part, columns in zip(wanted, scorer.parts(iter(feed), [len(rows) for rows in ranges]), strict=True):
            run.write_part(part, columns)
    return run


@dataclass(frozen=True)
class PoolSelection(Decided):
    """A selection that remembers its run, so that it can be exported. Made by `select`."""

    run: Run

    def export(
        self, out: str | Path, *, format: str | None = None, dropped: bool = False, pool: str | Path | None = None
    ) -> Path:
        """Write the kept (or the dropped) rows, in the pool's order, untouched in the source format or converted.

        Args:
            out: .json, .jsonl, .parquet, or a folder for a saved Hugging Face data set.
            pool: where the pool is now, if it was moved since scoring.
        """
        return export(self.run, self, out, format=format, dropped=dropped, pool=pool)


def select(run: Run | str | Path, *, selector: str | Selector | None = None, **how: Any) -> PoolSelection:
    """Choose samples by a run's signals. Needs no model.

    Args:
        selector: a word such as "coincide:temperature=0.2", or a selector; see `vlmsift.selectors.choose` for the other
            arguments then. None = rank by one signal; see `vlmsift.selectors.select` for them.
    """
    from vlmsift import selectors

    run = run if isinstance(run, Run) else Run.open(run)
    missing = run.summary()["missing"]
    if missing:
        raise UsageError(
            f"{run.folder}: {missing} of {run.pool_rows} rows are not scored yet; start the same score command again, "
            "it finishes them"
        )
    if selector is None:
        chosen = selectors.select(run, **how)
    else:
        if given := sorted({"by", "pick", "balance", "low", "high", "clusters", "vector", "min_group"} & set(how)):
            raise UsageError(
                f"selector={selector!r} says how to choose already; write {given[0]}={how[given[0]]!r} into its word"
            )
        chosen = selectors.choose(
            run, selectors.build_selector(selector) if isinstance(selector, str) else selector, **how
        )
    return PoolSelection(chosen.ids, chosen.dropped, chosen.made_by, chosen.decisions, run)


def export(
    run: Run,
    selection: Decided,
    out: str | Path,
    *,
    format: str | None = None,
    dropped: bool = False,
    pool: str | Path | None = None,
) -> Path:
    """Write the selection's rows of the pool that the run was scored on.

    Raises:
        RunMismatch: the pool is not the one that was scored.
    """
    source = run_pool(run, pool)
    rows = selection.decisions
    kept = rows["kept"].to_numpy()
    indices = rows["index"].to_numpy()[~kept if dropped else kept].tolist()
    return source.export(indices, out, format=format)


def run_pool(run: Run, path: str | Path | None = None) -> Pool:
    """The pool that a run was scored on, opened again and proven to be unchanged. Its images may be gone.

    Raises:
        UsageError: it is not where it was. RunMismatch: it is not the same.
    """
    from vlmsift.formats import open_pool

    info, data = run.settings["info"], run.settings["identity"]["data"]
    where = Path(path or info["pool"])
    if not where.exists():
        raise UsageError(f"the pool {where} is no longer there; name its new place with --pool")
    images = None if path or not Path(info["images"]).is_dir() else info["images"]
    pool = open_pool(where, images=images, format=data["format"], source_field=info.get("source_field"))
    if pool.fingerprint() != data["fingerprint"]:
        raise RunMismatch(
            f"{where} is not the pool that {run.folder} was scored on: its content differs. Name the right file with "
            "--pool, or score this one into a run of its own"
        )
    return pool


_LOOKED_AT = 20
"""Image references that are tried before a run."""


def look_at_images(pool: Pool) -> str | None:
    """Hash (hex) of the pool's first image files, so that a run notices other images; None where it has none.

    Raises:
        UsageError: none of them can be opened: then the image folder is wrong, not the samples.
    """
    from vlmsift.formats import open_image

    refs: list[ImageRef] = []
    for index in range(min(len(pool), 10 * _LOOKED_AT)):
        with suppress(SampleError):
            refs.extend(pool[index].images)
    digest, errors = hashlib.sha256(), []
    for ref in refs[:_LOOKED_AT]:
        try:
            open_image(ref, pool.image_root)
        except SampleError as error:
            errors.append(error)
        else:
            digest.update(ref if isinstance(ref, bytes) else (pool.image_root / ref).read_bytes())
    if refs and len(errors) == len(refs[:_LOOKED_AT]):
        raise UsageError(
            f"not one of the first {len(errors)} images of {pool.path} can be opened ({errors[0]}). The folder is "
            f"{pool.image_root}; name the one that the paths are relative to with --images"
        )
    return digest.hexdigest()[:16] if refs else None


def _short(name: str) -> str:
    """A local model by its folder's name, so that a run may be resumed from elsewhere; a hub name as it is."""
    return Path(name).resolve().name if Path(name).is_dir() else name


def _versions() -> dict[str, str]:
    """What the numbers were made with."""
    found = {"python": platform.python_version()}
    for name in ("vlmsift", "torch", "transformers", "tokenizers", "pillow", "torchvision"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
