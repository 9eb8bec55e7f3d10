"""A pool and a model -> a run folder of signals; several checkpoints -> one run along them.

In: what the user named. Out: a finished run. It refuses early: a wrong word or folder is told before a model is opened.
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
from typing import TYPE_CHECKING

from vlmsift.errors import RunMismatch, SampleError, UsageError
from vlmsift.files import compare
from vlmsift.runs.checkpoints import check_checkpoints, checkpoints_of, join, refuse_other_models
from vlmsift.runs.run import INSIDE, Run, drop_parts, recorded

if TYPE_CHECKING:
    from vlmsift.models import Adapter
    from vlmsift.pools import Pool
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
    from vlmsift.pools import open_pool

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
        check_checkpoints(out, len(models), overwrite)
    first_images = fingerprint_images(pool)

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
        if vectors := [column for column, signal in chosen.items() if signal.is_vector]:
            raise UsageError(
                f"{vectors[0]!r} is a vector already, and several models are given; follow a number over them, as "
                "trajectory=image_spectrum"
            )
        refuse_other_models(models, revision, trust_remote_code)
        if overwrite:  # before anything else is: stopped half-way, nothing old may be taken for new
            drop_parts(Path(out))
    # all bytes of the pool are read for this: once, and after all that costs less
    data = {"fingerprint": pool.fingerprint(), "format": pool.format, "first_images": first_images}
    scoring = _Scoring(pool, chosen, data, source_field, tokens_per_batch, workers, part_size, overwrite)
    if not overwrite:
        check_resumable(out, len(pool), data["fingerprint"], chosen, part_size)
    tick = None if progress is None else TotalProgress(progress, len(models))
    runs: list[Run] = []
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
        runs.append(scoring.score(one, folder, runs, tick))
        del one  # before the next is opened
        if tick is not None:
            tick.before = tick.last
    return runs[0] if len(runs) == 1 else join(runs, out, overwrite=overwrite)


@dataclass
class TotalProgress:
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


def check_resumable(
    out: str | Path, rows: int, fingerprint: str | None, signals: Mapping[str, Signal], part_size: int
) -> None:
    """Raise RunMismatch where `out` holds a run of other data or signals, before a model is opened or trained.

    Args:
        rows, fingerprint: of the pool.
    """
    if not (known := recorded(out)):
        return
    asked = {
        "rows": rows,
        "part_size": part_size,
        "data": {"fingerprint": fingerprint},
        "signals": {column: {"signal": signal.name} for column, signal in signals.items()},
    }
    there = {
        "rows": known["rows"],
        "part_size": known["part_size"],
        "data": {"fingerprint": known["data"]["fingerprint"]},
        "signals": {column: {"signal": entry["signal"]} for column, entry in known["signals"].items()},
    }
    compare(Path(out), there, asked)


@dataclass(frozen=True)
class _Scoring:
    """What all models of one call of `score` share; the fields are explained there, `data` is the pool's identity."""

    pool: Pool
    signals: dict[str, Signal]
    data: Mapping[str, str | None]
    source_field: str | None
    tokens_per_batch: int
    workers: int | None
    part_size: int
    overwrite: bool

    def score(
        self, model: Adapter, out: Path, before: Sequence[Run], progress: Callable[[Progress], None] | None
    ) -> Run:
        """Score one open model, which must not be one of the runs `before`."""
        import os
        import time

        from vlmsift.models import special_ids
        from vlmsift.models.fingerprint import fingerprint
        from vlmsift.passes.capture import Capture
        from vlmsift.pools import open_image
        from vlmsift.scoring.batches import Scorer, signal_width
        from vlmsift.scoring.feed import Feed

        made_by = {**fingerprint(model), "name": _short(model.name)}
        for run in before:
            if run.settings["identity"]["model"]["weights"] == made_by["weights"]:
                raise RunMismatch(
                    f"{model.name} has the same weights as {run.settings['info']['model']}; give each checkpoint once"
                )
        known = [] if self.overwrite else list(recorded(out).get("signals", {}).values())
        chosen = {column: signal.bind(model, known) for column, signal in self.signals.items()}
        identity = {
            "model": made_by,
            "data": self.data,
            "rows": len(self.pool),
            "part_size": self.part_size,
            "signals": {
                column: {
                    "signal": signal.name,
                    "parameters": signal.parameters(),
                    "width": signal_width(signal, model),
                    "unit": signal.unit,
                    "higher_means": signal.higher_means,
                }
                for column, signal in chosen.items()
            },
        }
        info = {
            "model": model.name,
            "pool": str(self.pool.path.resolve()),
            "images": str(self.pool.image_root.resolve()),
            "device": str(model.device),
            "source_field": self.source_field,
            "tokens_per_batch": self.tokens_per_batch,
            # so that a training can mask the same tokens, see `masked_states(like=...)`
            "special_ids": " ".join(map(str, special_ids(model.processor.tokenizer, model.image_token_id))),
            "versions": _versions(),
        }
        try:
            run = Run.create_or_resume(out, {"identity": identity, "info": info}, overwrite=self.overwrite)
        except OSError as error:
            raise UsageError(
                f"no run can be written to {out} ({error.strerror}); name another folder for it"
            ) from error
        parts = -(-len(self.pool) // self.part_size)
        wanted = sorted(set(range(parts)) - run.finished_parts())
        ranges = [range(part * self.part_size, min((part + 1) * self.part_size, len(self.pool))) for part in wanted]
        workers = min(8, max(1, (os.cpu_count() or 2) - 1)) if self.workers is None else self.workers
        encoder = model.encoder(partial(open_image, root=self.pool.image_root))
        feed = Feed(self.pool, encoder, [index for rows in ranges for index in rows], workers)
        state, started = Progress(len(self.pool), len(self.pool) - len(feed.indices)), time.perf_counter()
        # a stretch of failures right after a resume says nothing against a model that has measured samples before
        proven = bool(run.finished_parts()) and run.summary()["ok"] > 0

        def tick(rows: int, errors: int) -> None:
            state.done, state.errors = state.done + rows, state.errors + errors
            state.waited, state.seconds = feed.waited, time.perf_counter() - started
            if progress is not None:
                progress(state)

        tick(0, 0)
        with Capture(model) as capture:
            scorer = Scorer(capture, encoder, chosen, self.tokens_per_batch, tick, proven)
            for part, columns in zip(wanted, scorer.parts(iter(feed), [len(rows) for rows in ranges]), strict=True):
                run.write_part(part, columns)
        return run


_LOOKED_AT = 20
"""Image references that are tried before a run."""


def fingerprint_images(pool: Pool) -> str | None:
    """Hash (hex) of the pool's first image files, so that a run notices other images; None where it has none.

    Raises:
        UsageError: none of them can be opened: then the image folder is wrong, not the samples.
    """
    from vlmsift.pools import open_image

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
