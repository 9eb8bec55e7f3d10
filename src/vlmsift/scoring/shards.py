"""Who of several workers am I? In: what the user or the scheduler says. Out: a stride through the parts of a run.

A stride only says where a worker begins: when it is done it takes what others have left (see `vlmsift.scoring.parts`).
So a wrong one costs time and no rows, and variables that were set for something else do no harm.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from vlmsift.specs import EngineSpec, parse_shard

# the finest first: torchrun numbers its processes over all nodes that Slurm or SkyPilot has started it on
_TORCHRUN = ("RANK", "WORLD_SIZE")
_SLURM = ("SLURM_PROCID", "SLURM_NTASKS")
_SKYPILOT = ("SKYPILOT_NODE_RANK", "SKYPILOT_NUM_NODES")
_ARRAY = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT")


@dataclass(frozen=True)
class Shard:
    """Worker `index` of `count`. `told`: the variables that said so; empty where the user did, or nobody."""

    index: int = 0
    count: int = 1
    told: str = ""

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def split(self, place: int, among: int) -> Shard:
        """That of one of the processes that this worker starts."""
        return Shard(self.index * among + place, self.count * among)


def find_shard(engine: EngineSpec, environ: Mapping[str, str] = os.environ) -> Shard:
    """What `engine.shard` says, or else the variables of torchrun, Slurm or SkyPilot, the first that tell of several.

    The tasks of a Slurm array count as workers, too, times the processes of each.
    """
    if engine.shard is not None:
        return Shard(*parse_shard(engine.shard))
    if engine.engine == "ray":
        return Shard()
    if (found := _pair(_TORCHRUN, environ)) is not None:
        return Shard(*found, " and ".join(_TORCHRUN))
    process, task = _pair(_SLURM, environ), _pair(_ARRAY, environ, "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP")
    if process and task:
        return Shard(task[0] * process[1] + process[0], task[1] * process[1], " and ".join((*_ARRAY, *_SLURM)))
    for names, pair in ((_ARRAY, task), (_SLURM, process), (_SKYPILOT, _pair(_SKYPILOT, environ))):
        if pair is not None:
            return Shard(*pair, " and ".join(names))
    return Shard()


def _pair(
    names: tuple[str, str], environ: Mapping[str, str], least: str | None = None, step: str | None = None
) -> tuple[int, int] | None:
    """(index, count) as two variables have them; None where they are not set, mean one worker, or make no sense."""
    try:
        index, count = (int(environ[name]) for name in names)
        index = (index - int(environ.get(least or "", 0))) // int(environ.get(step or "", 1))
    except (KeyError, ValueError, ZeroDivisionError):
        return None
    return (index, count) if count > 1 and 0 <= index < count else None
