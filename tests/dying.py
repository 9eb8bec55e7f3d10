"""The command line in a process of its own that dies by SIGKILL: from outside, or by itself at a step of writing.

In: arguments of `vlmsift`. Out: the exit code. They are forked from a server that has imported torch already.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(  # what a child would otherwise import, each for itself
    [
        "__main__",
        *(f"vlmsift.{name}" for name in ("cli", "terminal", "scoring.score", "selectors", "signals")),
        *("vlmsift.models.fingerprint", "vlmsift.pools.text_rows", "torch.utils.data", "PIL.PngImagePlugin"),
        *(f"transformers.models.llava.{name}_llava" for name in ("modeling", "processing")),
        *("transformers.models.clip.modeling_clip", "transformers.models.llama.modeling_llama"),
        "transformers.models.clip.image_processing_pil_clip",
    ]
)


def run_to_death(arguments: Sequence[str], step: int) -> int:
    """Run until just before the `step`-th call (from 1) that brings something to the disk; 0 = to the end."""
    process = start(arguments, step)
    process.join()
    return int(process.exitcode or 0)


def kill_when(arguments: Sequence[str], ready: Callable[[], bool], delay: float) -> int:
    """Run, and kill the whole process group `delay` seconds after `ready()` first holds."""
    process = start(arguments, 0)
    while process.is_alive() and not ready():
        time.sleep(0.002)
    time.sleep(delay)
    try:
        os.killpg(process.pid or 0, signal.SIGKILL)
    except ProcessLookupError:  # it has not become a group yet, or is done
        process.kill()
    process.join()
    return int(process.exitcode or 0)


def start(arguments: Sequence[str], step: int) -> Any:
    """Run in a process of its own, as `run_to_death`; nobody waits for it."""
    process = _SERVER.Process(target=_work, args=(list(arguments), step))
    process.start()
    return process


def _work(arguments: list[str], step: int) -> None:
    from vlmsift.cli import main

    os.setsid()
    if step:
        left = iter(range(step - 1, -1, -1))
        for name in ("fsync", "replace", "rename", "link"):
            setattr(os, name, _dying(getattr(os, name), left))
    main(arguments)


def _dying(function: Callable[..., Any], left: Any) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        if next(left, 1) == 0:
            os.killpg(0, signal.SIGKILL)
        return function(*arguments)

    return call
