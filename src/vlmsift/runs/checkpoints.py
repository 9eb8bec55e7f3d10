"""Runs of several checkpoints of one training -> one run with a number per checkpoint: trajectories.

In: what the user named, and the checkpoints' runs. Out: models in order; a run whose signals are (N, T) vectors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlmsift.errors import RunMismatch, SampleError, UsageError, split_reason
from vlmsift.files import flat
from vlmsift.runs.beginning import check_run_folder, recorded
from vlmsift.runs.columns import FIXED
from vlmsift.runs.run import Run

_STEP = re.compile(r"(?:step|checkpoint)-(\d+)")
_FREE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache")  # may differ in checkpoints


def checkpoints_of(model: Any) -> list[Any]:
    """The models to score, in order: those of a list, or those in a folder of step-N or checkpoint-N folders.

    Raises UsageError where a list names none, or the same one twice.
    """
    if not isinstance(model, (list, tuple)):
        return _listed(model)
    if not model:
        raise UsageError("an empty list of models measures nothing; give one, or several checkpoints in order")
    found = [one for name in model for one in _listed(name)]
    if twice := [one for place, one in enumerate(found) if one in found[:place]]:
        raise UsageError(f"the checkpoint {str(twice[0])!r} is given twice; give each once, in order")
    return found


def _listed(model: Any) -> list[Any]:
    """The checkpoints in a folder that is no model itself, by their steps; elsewhere the model alone."""
    if not isinstance(model, (str, Path)) or not Path(model).is_dir() or (Path(model) / "config.json").exists():
        return [model]
    steps = {int(match[1]): path for path in Path(model).iterdir() if (match := _STEP.fullmatch(path.name))}
    return [steps[step] for step in sorted(steps)] or [model]


def refuse_other_models(models: Sequence[str | Path], revision: str | None, trust_remote_code: bool) -> None:
    """Raise UsageError where checkpoints differ in more than their weights; reads their configs alone."""
    from vlmsift.models.fingerprint import config_of

    first, *others = (_lasting(config_of(name, revision, trust_remote_code)) for name in models)
    for name, other in zip(models[1:], others, strict=True):
        if differing := [key for key in sorted({*first, *other}) if first.get(key) != other.get(key)]:
            key = differing[0]
            both = f"{key} is {first.get(key)!r} in {models[0]} and {other.get(key)!r} in {name}"
            told = f"a trajectory follows one model, but the checkpoints differ: {both}"
            raise UsageError(f"{told}. Give checkpoints of one training")


def _lasting(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config as dotted keys, without what may change while a model is trained."""
    return {key: value for key, value in flat(config).items() if key.rpartition(".")[2] not in _FREE}


def check_checkpoints(out: str | Path, count: int, overwrite: bool) -> None:
    """Raise RunMismatch where `out` is a run, but not of `count` checkpoints; UsageError as `check_run_folder`."""
    check_run_folder(out, overwrite)
    identity = {} if overwrite else recorded(out)
    known = identity.get("checkpoints", [None])
    if identity and len(known) != count:
        held = "one model" if known == [None] else f"{len(known)} checkpoints"
        raise RunMismatch(f"{out} holds a run of {held}, not of {count} checkpoints; name another --out folder")


def join(runs: Sequence[Run], out: str | Path, *, overwrite: bool = False) -> Run:
    """One run from finished runs of T checkpoints in order: each column (N,) becomes (N, T). Resumes.

    A row is an error row if it is one at any checkpoint, and the reason names the first.

    Raises:
        RunMismatch: the runs are of different data, signals or models.
        UsageError: fewer than two runs, or a column that is a vector already.
    """
    if len(runs) < 2:
        raise UsageError(f"{len(runs)} checkpoint makes no trajectory; give at least 2 of one training, in order")
    identities = [run.settings["identity"] for run in runs]
    _compare(runs, identities)
    first, along = identities[0], f"at each of {len(runs)} checkpoints"
    told = {
        name: {**entry, "width": len(runs), "higher_means": f"{along}: {entry['higher_means']}"}
        for name, entry in first["signals"].items()
    }
    each = ("name", "revision", "weights")
    identity = {
        **first,
        "model": {key: value for key, value in first["model"].items() if key not in each},
        "checkpoints": [{key: one["model"][key] for key in each} for one in identities],
        "signals": told,
    }
    info = {**runs[0].settings["info"], "model": [run.settings["info"]["model"] for run in runs]}
    joined = Run.create_or_resume(out, {"identity": identity, "info": info}, overwrite=overwrite)
    for part in sorted(runs[0].finished_parts() - joined.finished_parts()):
        joined.write_part(part, _stacked([run.part(part) for run in runs], list(told), identity["checkpoints"]))
    return joined


def _compare(runs: Sequence[Run], identities: Sequence[Mapping[str, Any]]) -> None:
    for run, identity in zip(runs[1:], identities[1:], strict=True):
        both = f"{run.place} and {runs[0].place}"
        for key in ("data", "rows", "part_size", "signals"):
            if (one := identity[key]) != (other := identities[0][key]):
                raise RunMismatch(f"{both} were scored with other {key}: {one} and {other}; score both alike")
        for key in ("family", "dtype", "processor"):
            if (one := identity["model"][key]) != (other := identities[0]["model"][key]):
                differ = f"{both} are of models that differ in {key}: {one!r} and {other!r}"
                raise RunMismatch(f"{differ}; a trajectory follows one model")
    for name, entry in identities[0]["signals"].items():
        if entry["width"] > 1 or entry.get("vector"):
            raise UsageError(f"{name!r} is a vector already; a trajectory follows one number, as in answer_loss")


def _stacked(tables: Sequence[Any], names: Sequence[str], checkpoints: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Columns of one part from those of T checkpoints."""
    rows = {field.name: tables[0][field.name].to_pylist() for field in FIXED}
    for table, checkpoint in zip(tables[1:], checkpoints[1:], strict=True):
        for place, row in enumerate(table.select(["status", "reason"]).to_pylist()):
            if row["status"] != "ok" and rows["status"][place] == "ok":  # it fails here first
                kind, detail = split_reason(row["reason"])
                where = ": ".join(filter(None, (f"at {checkpoint['name']}", detail)))
                rows["status"][place], rows["reason"][place] = row["status"], str(SampleError(kind, where))
    failed = np.array([status != "ok" for status in rows["status"]])
    for name in names:
        rows[name] = np.stack([table[name].to_numpy() for table in tables], axis=1).astype(np.float32)  # (n, T)
        rows[name][failed] = np.nan
    return rows
