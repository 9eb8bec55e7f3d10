"""What a scoring is, checked before a model is opened. In: what the user named. Out: a `ScoreJob`, or one sentence.

All that can be known from words, folders and configurations is refused here; what is left can only fail in the model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmsift.errors import SampleError, UsageError
from vlmsift.files import compare
from vlmsift.folders import is_url
from vlmsift.runs.beginning import check_run_folder, recorded
from vlmsift.runs.checkpoints import check_checkpoints, checkpoints_of, refuse_other_models
from vlmsift.scoring.patience import patience
from vlmsift.scoring.shards import Shard, find_shard
from vlmsift.specs import EngineSpec, ModelSpec, PoolSpec, as_spec

if TYPE_CHECKING:
    from vlmsift.models import Adapter
    from vlmsift.pools import Pool
    from vlmsift.runs.run import Run
    from vlmsift.scoring.asked import Asked
    from vlmsift.types import ImageRef, Signal

_LOOKED_AT = 20  # image references that are tried before a run


@dataclass(frozen=True)
class ScoreJob:
    """One call of `score`, checked."""

    pool: Pool
    model: ModelSpec | None  # how models are opened; None where one is open already
    models: tuple[Any, ...]  # names of the checkpoints in order, or the one open adapter
    out: str | Path  # the run folder
    signals: Mapping[str, Signal]  # by column
    engine: EngineSpec
    overwrite: bool
    data: Mapping[str, str | None]  # the pool's identity, as a run records it
    shard: Shard  # which of several workers this is
    part_size: int  # rows per file of signals
    asked: Asked | None = None  # the rows to score; None = all

    def opened(self) -> ScoreJob:
        """The same job with its one model open, for who needs it afterwards too."""
        from vlmsift.models import open_model

        if self.model is None:
            return self
        return replace(self, model=None, models=(open_model(replace(self.model, model=self.models[0])),))

    @property
    def count(self) -> int:
        """Rows to be measured."""
        return len(self.pool) if self.asked is None else len(self.asked.rows)

    def asking(self, where: str, of: str | Path | Run) -> ScoreJob:
        """The same job for the rows of the run `of` that fulfil `where` alone. Raises as `check_score`."""
        from vlmsift.scoring.asked import ask

        asked = ask(self.pool, str(self.data["fingerprint"]), of, where, self.out)
        if not self.overwrite:
            named = asked.identity()
            check_resumable(self.out, len(self.pool), self.data["fingerprint"], self.signals, self.part_size, named)
        return replace(self, asked=asked)

    def with_models(self, models: Sequence[str | Path]) -> ScoreJob:
        """The same job for models that were made since, such as the checkpoints of a fine-tune."""
        assert self.model is not None
        spec = replace(self.model, model=tuple(models), revision=None)
        return replace(self, model=spec, models=_checked_models(models, spec, self.signals, self.out, self.overwrite))


def check_score(
    pool: str | Path | PoolSpec | Pool,
    model: str | Path | ModelSpec | Adapter | Sequence[str | Path],
    out: str | Path,
    *,
    signals: Sequence[str] | Mapping[str, Signal] | None = None,
    config: str | Path | None = None,
    where: str | None = None,
    of: str | Path | Run | None = None,
    asks_later: bool = False,
    engine: EngineSpec | None = None,
    overwrite: bool = False,
) -> ScoreJob:
    """A scoring that can be begun; the arguments are explained at `score`.

    `asks_later`: which rows is told by `asking`, once the run that they are named by is there.

    Raises:
        UsageError, FormatError: with what to change. RunMismatch: `out` holds a run of other data or signals.
    """
    if config is not None and signals is not None:
        raise UsageError(f"config={str(config)!r} names the signals already; give it or signals, not both")
    if (where is None) != (of is None):
        told = f"of={str(of)!r} has no condition" if where is None else f"where={where!r} names no run that it is about"
        raise UsageError(f"{told}; give both: --where CONDITION --of RUN")
    from vlmsift.pools import open_pool

    engine = engine or EngineSpec()
    shard = find_shard(engine)
    if overwrite and (shard.count > 1 or engine.engine == "ray"):
        who = "Ray actors" if engine.engine == "ray" else f"shard {shard}" + f" (by {shard.told})" * bool(shard.told)
        cure = "Remove the folder yourself, or, should this be the only worker, say --shard 0/1"
        raise UsageError(f"overwrite with {who}: one worker would throw away what another has measured. {cure}")
    spec = as_spec(ModelSpec, model)
    pool = open_pool(as_spec(PoolSpec, pool))
    first_images = fingerprint_images(pool)
    chosen = _build(signals, config)
    out = out if is_url(out) else Path(out)
    check_run_folder(out, overwrite)
    if engine.spreads and not isinstance(spec, ModelSpec):
        raise UsageError(f"{spec.name} is open in this process, and others are to measure; name it by its folder")
    how, models = (spec, ()) if isinstance(spec, ModelSpec) else (None, (spec,))
    if how is not None:
        models = _checked_models(checkpoints_of(how.model), how, chosen, out, overwrite)
    if overwrite and engine.devices and len(models) > 1:
        told = f"overwrite of a run along {len(models)} checkpoints by devices={engine.devices!r}"
        raise UsageError(f"{told}: one process would throw away what another has measured. Remove the folder yourself")
    # all bytes of the pool are read for this: after all that costs less
    data = {"fingerprint": pool.fingerprint(), "format": pool.format, "first_images": first_images}
    part_size = engine.rows_per_part(len(pool))
    if not overwrite and engine.part_size is None:  # nobody asked for another: a run goes on as it was begun
        part_size = recorded(out).get("part_size", part_size)
    job = ScoreJob(pool, how, models, out, chosen, engine, overwrite, data, shard, part_size)
    if where is not None and of is not None:
        return job.asking(where, of)
    if not overwrite:
        there = recorded(out).get("asked") if asks_later else None
        check_resumable(out, len(pool), data["fingerprint"], chosen, part_size, there)
    return job


def _build(signals: Sequence[str] | Mapping[str, Signal] | None, config: str | Path | None) -> dict[str, Signal]:
    from vlmsift.signals import DEFAULT_SIGNALS, build_signals
    from vlmsift.signals.config import load_config

    if config is not None:
        return load_config(config).signals
    if isinstance(signals, Mapping):
        return dict(signals)
    return build_signals(list(DEFAULT_SIGNALS if signals is None else signals))


def _checked_models(
    models: Sequence[Any], spec: ModelSpec, signals: Mapping[str, Signal], out: str | Path, overwrite: bool
) -> tuple[Any, ...]:
    """The models, several of which must be checkpoints of one training that is followed by numbers."""
    from vlmsift.models.opening import check_model

    for name in models:
        check_model(replace(spec, model=name))
    if len(models) > 1:
        check_checkpoints(out, len(models), overwrite)
        if vectors := [column for column, signal in signals.items() if signal.is_vector]:
            told = f"{vectors[0]!r} is a vector already, and several models are given"
            raise UsageError(f"{told}; follow a number over them, as trajectory=image_spectrum")
        refuse_other_models(models, spec.revision, spec.trust_remote_code)
    return tuple(models)


def check_resumable(
    out: str | Path,
    rows: int,
    fingerprint: str | None,
    signals: Mapping[str, Signal],
    part_size: int,
    asked: Mapping[str, Any] | None = None,
) -> None:
    """Raise RunMismatch where `out` holds a run of other data, rows or signals, before a model is opened or trained.

    `rows` and `fingerprint` are the pool's, `asked` is as a run records it.
    """
    if not (known := recorded(out)):
        return
    there: dict[str, Any] = {name: known.get(name) for name in ("rows", "part_size", "asked")}
    there["data"] = {"fingerprint": known["data"]["fingerprint"]}
    there["signals"] = {column: {"signal": entry["signal"]} for column, entry in known["signals"].items()}
    wanted: dict[str, Any] = {"rows": rows, "part_size": part_size, "data": {"fingerprint": fingerprint}}
    wanted["signals"] = {column: {"signal": signal.name} for column, signal in signals.items()}
    wanted["asked"] = asked
    compare(out, there, wanted)


def fingerprint_images(pool: Pool) -> str | None:
    """Hash (hex) of the pool's first image files, so that a run notices other images; None where it has none.

    Raises UsageError where none of them can be opened: then the image folder is wrong, not the samples.
    """
    from vlmsift.pools import image_bytes, open_image

    refs: list[ImageRef] = []
    for index in range(min(len(pool), 10 * _LOOKED_AT)):
        with suppress(SampleError):
            refs.extend(pool[index].images)
        if len(refs) >= _LOOKED_AT:  # a row may hold its images: do not read more of them
            break
    refs, digest, errors = refs[:_LOOKED_AT], hashlib.sha256(), []
    for ref in refs:
        try:
            with patience():
                open_image(ref, pool.image_root)
        except SampleError as error:
            errors.append(error)
        else:
            digest.update(image_bytes(ref, pool.image_root))
    if refs and len(errors) == len(refs):
        cure = f"The folder is {pool.image_root}; name the one that the paths are relative to with --images"
        told = f"not one of the first {len(errors)} images of {pool.path} can be opened"
        raise UsageError(f"{told} ({errors[0]}). {cure}")
    return digest.hexdigest()[:16] if refs else None
