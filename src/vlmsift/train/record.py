"""What a training was, on disk. In: its identity and result. Out: `train.json`, and what may go on from where.

`out/train.json` belongs to a finished training; `.<out>.work/` beside it holds the checkpoints of one that is not.
"""

from __future__ import annotations

import functools
import math
import os
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vlmsift.errors import UsageError
from vlmsift.files import check_output, compare, read_json, write_json

RECORD = "train.json"
RESULT = ("samples", "steps", "seconds", "loss", "diverged")
"""Fields of `Trained` after the folder, as they are written."""
CURE = "Name another folder, or start anew (resume=False, --anew)."
SNAPSHOTS = "snapshots"
"""The folder of them, in the work folder at first, then in `out`."""
DIVERGED = 3.0
"""So many times the first loss at the end, and the training counts as diverged."""
SMALL_LOSS = 0.5
"""Nats; a first loss below it is taken as this, because small losses may well treble."""


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    folder: Path  # model and processor, and `train.json`
    samples: int  # usable ones
    steps: int  # optimiser steps done
    seconds: float  # of the training loop, over all starts, with what writing checkpoints and snapshots took
    loss: float  # mean of the last tenth of the steps, in nats per supervised token; NaN or infinite where it went so
    diverged: bool  # the loss became not finite, or ended above three times where it began
    skipped: Mapping[str, str]  # id -> why the sample could not be used
    losses: tuple[float, ...] = field(default=(), repr=False)  # of every step, in nats per supervised token
    snapshots: tuple[Path, ...] = ()  # folders `step-N` in `folder/snapshots`, by N; each opens like `folder`


def diverged(losses: list[float]) -> bool:
    """Whether a loss is not finite, or the last tenth lies above three times the first."""
    if not all(map(math.isfinite, losses)):
        return True
    some = max(1, len(losses) // 10)
    first, last = sum(losses[:some]) / some, sum(losses[-some:]) / some
    return last > DIVERGED * max(first, SMALL_LOSS)


def described(context: Any) -> str | None:
    """A context factory as text that is the same in the next process: never an address in memory."""
    if isinstance(context, functools.partial):
        more = [repr(value) for value in context.args] + [f"{key}={value!r}" for key, value in context.keywords.items()]
        return f"{described(context.func)}({', '.join(more)})"
    text = repr(context)
    if " at 0x" in text:
        return f"{getattr(context, '__module__', '')}.{getattr(context, '__qualname__', type(context).__qualname__)}"
    return None if context is None else text


def check_output_folder(out: Path, resume: bool) -> None:
    """Raises UsageError where `out` is not, or cannot become, the result of a training."""
    check_output(out, folder=True)
    if out.is_dir() and any(out.iterdir()) and not (out / RECORD).exists():
        raise UsageError(f"{str(out)!r} exists and is not the result of a training; name a new or empty folder")
    if not resume:  # what lies there will be replaced, so nothing else may lie with it
        check_output(out, ours=written_to(out))


def written_to(out: Path) -> Callable[[str], bool]:
    """Whether a name in `out` is of the training that it holds. Records of older versions do not tell: all are."""
    if not (out / RECORD).exists():
        return lambda name: False
    files = read_json(out / RECORD).get("files")
    return lambda name: files is None or name in files


def finished(out: Path, identity: Mapping[str, Any]) -> Trained | None:
    """The training that `out` holds; None where there is none.

    Raises RunMismatch where it was made otherwise, and names what differs.
    """
    if not (out / RECORD).exists():
        return None
    record = read_json(out / RECORD)
    compare(out, record["identity"], identity, "training", CURE)
    result, losses = {name: record["result"][name] for name in RESULT}, tuple(map(float, record["losses"]))
    result["loss"] = float(result["loss"])  # it may be a word
    return Trained(out, skipped=record["skipped"], losses=losses, snapshots=snapshots_in(out), **result)


def snapshots_in(out: Path) -> tuple[Path, ...]:
    """The folders `out/snapshots/step-N`, by N."""
    return tuple(sorted((out / SNAPSHOTS).glob("step-*"), key=step_of))


def step_of(folder: Path) -> int:
    """Optimiser steps done, from the name of a snapshot or checkpoint."""
    return int(folder.name.rpartition("-")[2])


def begin(work: Path, identity: Mapping[str, Any], resume: bool) -> Path | None:
    """Make the folder of checkpoints; the last whole one of an earlier start, None where there is none.

    Raises RunMismatch where the folder belongs to a training made otherwise.
    """
    if not resume:
        shutil.rmtree(work, ignore_errors=True)
    if (work / RECORD).exists():
        compare(work, read_json(work / RECORD)["identity"], identity, "training", CURE)
        whole = [path.parent for path in work.glob("checkpoint-*/trainer_state.json")]  # a killed writer leaves none
        return max(whole, key=step_of, default=None)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    write_json(work / RECORD, {"identity": identity})
    return None


def write(folder: Path, result: Trained, identity: Mapping[str, Any], more: Mapping[str, Any]) -> None:
    """Write `train.json`. Losses that are not finite are words ("nan", "inf"), because JSON has no such numbers."""
    content = {
        "result": {name: _number(getattr(result, name)) for name in RESULT},
        "identity": identity,
        **more,
        "versions": _versions(),
        "files": sorted({*os.listdir(folder), RECORD, SNAPSHOTS}),  # those two come after this
        "skipped": result.skipped,
        "losses": [_number(loss) for loss in result.losses],
    }
    write_json(folder / RECORD, content)


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _versions() -> dict[str, str]:
    packages = ("vlmsift", "torch", "transformers", "accelerate")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
