"""One scoring on several devices of this machine: a process for each, which is a worker like any other.

In: a checked job that names devices. Out: a finished run. A process that dies is started again, three times; then its
device is given up, and the others do its work. The first that ends well has found nothing missing, so all may stop.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from vlmsift.errors import FormatError, MissingExtra, RunMismatch, UnsupportedModel, UsageError, VlmsiftError
from vlmsift.files import remove_leftovers
from vlmsift.folders import LocalFolder, open_folder

if TYPE_CHECKING:
    from vlmsift.scoring.job import ScoreJob
    from vlmsift.scoring.score import Progress

RESTARTS = 3  # of one process
FINAL = (UsageError, FormatError, UnsupportedModel, RunMismatch, MissingExtra)  # another start ends the same way
_SPAWN = multiprocessing.get_context("spawn")  # a fork of a process that has used a GPU cannot use one


def score_on_devices(job: ScoreJob, progress: Callable[[Progress], None] | None) -> None:
    """Have a process for each device score until no part is missing.

    Raises VlmsiftError where a process says that no other start can help, or all devices are given up.
    """
    jobs = jobs_of(job)
    workers = [_Worker(one, threads()) for one in jobs]
    total = Total(progress)
    try:
        workers[0].start()
        if job.overwrite:  # it begins the run anew before another looks
            while workers[0].alive and not total.told:
                _hear(workers[:1], total)
            workers[0].job = replace(jobs[0], overwrite=False)
        for worker in workers[1:]:
            worker.start()
        while all(not worker.done for worker in workers):
            if not any(worker.alive for worker in workers):
                told = "; ".join(f"{worker.device}: {worker.fault}" for worker in workers)
                raise VlmsiftError(f"no device is left ({told}). Start the same command again; finished parts are kept")
            _hear(workers, total)
    finally:
        for worker in workers:
            worker.stop()
    total.finish()
    home = open_folder(job.out)
    if isinstance(home, LocalFolder):
        remove_leftovers(home.path / "signals")  # of those that were stopped in the middle of what is there already


def jobs_of(job: ScoreJob) -> list[ScoreJob]:
    """The job of each device's process."""
    names = job.engine.device_names()
    workers = job.engine.workers
    if workers is None:
        workers = min(8, max(1, ((os.cpu_count() or 2) - 1) // len(names)))
    assert job.model is not None
    return [
        replace(
            job,
            model=replace(job.model, device=name),
            engine=replace(job.engine.alone(), workers=workers),
            shard=job.shard.split(place, len(names)),
            overwrite=job.overwrite and place == 0,
        )
        for place, name in enumerate(names)
    ]


def threads() -> int:
    """Of this process; numbers on a CPU depend on it in their last bits, so workers take the same."""
    import torch

    return torch.get_num_threads()


@dataclass
class Total:
    """The progress of all processes as that of one run."""

    progress: Callable[[Progress], None] | None
    started: float = field(default_factory=time.perf_counter)
    last: dict[int, Progress] = field(default_factory=dict)  # of each start of a process
    before: int = 0  # rows that were done when the first began
    notes: tuple[str, ...] = ()
    state: Progress | None = None

    @property
    def told(self) -> bool:
        return self.state is not None

    def hear(self, key: int, state: Progress) -> None:
        """A process that was started as number `key` tells where it stands."""
        if self.state is None:
            self.before = state.done - state.mine
        self.last[key] = state
        every = list(self.last.values())
        mine = sum(one.mine for one in every)  # a row that two have measured counts twice
        done = max(self.state.done if self.state else 0, state.done, min(state.total, self.before + mine))
        errors, waited = sum(one.errors for one in every), sum(one.waited for one in every) / len(every)
        self.tell(replace(state, done=done, mine=mine, errors=errors, waited=waited))

    def note(self, sentence: str) -> None:
        """Tell the user of something that went wrong."""
        self.notes = (*self.notes, sentence)
        if self.state is not None:
            self.tell(self.state)

    def finish(self) -> None:
        """All rows are there."""
        if self.state is not None:
            self.tell(replace(self.state, done=self.state.total))

    def tell(self, state: Progress) -> None:
        self.state = replace(state, seconds=time.perf_counter() - self.started, notes=self.notes)
        if self.progress is not None:
            self.progress(self.state)


class _Worker:
    """A device's process, and its starts."""

    def __init__(self, job: ScoreJob, threads: int) -> None:
        assert job.model is not None
        self.job, self.threads, self.device = job, threads, job.model.device
        self.starts, self.done, self.fault = 0, False, ""
        self.process: Any = None
        self.pipe: Connection | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None

    def start(self) -> None:
        self.starts += 1
        self.pipe, far = _SPAWN.Pipe(duplex=False)
        self.process = _SPAWN.Process(target=work, args=(self.job, self.threads, far), name=f"score on {self.device}")
        self.process.start()
        far.close()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.join()
            self.process = None


def _hear(workers: list[_Worker], total: Total) -> None:
    """Wait until a process says something or ends, and see to it."""
    alive = {worker.process.sentinel: worker for worker in workers if worker.alive}
    speakers: dict[Any, _Worker] = {**alive, **{worker.pipe: worker for worker in alive.values()}}
    for worker in {id(speakers[one]): speakers[one] for one in wait(list(speakers))}.values():
        error = _read(worker, total, workers.index(worker))
        if isinstance(error, FINAL):
            raise error
        if worker.process.is_alive() and error is None:
            continue
        worker.process.join()
        _read(worker, total, workers.index(worker))
        code = worker.process.exitcode
        worker.process = None
        if code == 0 and error is None:
            worker.done = True
            return
        worker.fault = str(error) if error is not None else f"its process ended with code {code}"
        if worker.starts <= RESTARTS:
            total.note(f"{worker.device}: {worker.fault}; it is started again ({worker.starts} of {RESTARTS})")
            worker.start()
        else:
            total.note(f"{worker.device}: {worker.fault}; it is given up, and the others do its work")


def _read(worker: _Worker, total: Total, place: int) -> BaseException | None:
    """What a process has said since: its error, if it told one."""
    with suppress(EOFError, OSError):
        while worker.pipe is not None and worker.pipe.poll():
            said = worker.pipe.recv()
            if isinstance(said, BaseException):
                return said
            total.hear(place * (RESTARTS + 2) + worker.starts, said)
    return None


def work(job: ScoreJob, threads: int, pipe: Any) -> None:
    """What a process does: score, tell, and end when nobody listens any more."""
    import torch

    from vlmsift.scoring.score import run_score

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who is interrupted at the terminal is the parent; it stops us
    torch.set_num_threads(threads)

    def tell(said: Any) -> None:
        try:
            pipe.send(said)
        except OSError:
            sys.exit(1)

    try:
        run_score(job, tell)
    except VlmsiftError as error:
        tell(error)
        sys.exit(1)
