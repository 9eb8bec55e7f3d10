"""One scoring on a Ray cluster: an actor for each GPU, which is a worker like any other.

In: a checked job. Out: a finished run. Ray starts an actor again that has died, and here is only seen to that there are
some until one ends well, which has found nothing missing. An actor whose node is gone for good is not waited for: the
others take its parts. Ray Data is not used: it assigns rows for good, and an actor that cannot come back stops it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vlmsift.errors import MissingExtra, UsageError, VlmsiftError
from vlmsift.folders import open_folder
from vlmsift.runs import INSIDE, Run
from vlmsift.runs.record import RECORD, read_record
from vlmsift.scoring.devices import FINAL, RESTARTS, Total, threads
from vlmsift.scoring.shards import Shard

if TYPE_CHECKING:
    from vlmsift.scoring.job import ScoreJob
    from vlmsift.scoring.score import Progress

LOOK_EVERY = 2.0  # seconds between two looks at actors and files
_FOREVER = -1


def score_on_ray(job: ScoreJob, progress: Callable[[Progress], None] | None) -> None:
    """Have actors score until no part is missing.

    Raises MissingExtra where Ray is not installed, UsageError where its cluster is not found or cannot be started, and
    VlmsiftError where an actor says that no other start can help, or all of them have died too often.
    """
    ray = import_ray()
    ours = not ray.is_initialized()
    if ours:
        if job.engine.address is None and any(map(str.isspace, sys.executable)):
            told = f"Ray starts no workers by a Python whose path holds a blank: {sys.executable}"
            raise UsageError(f"{told}. Move the environment to another folder, or use --devices")
        try:
            ray.init(job.engine.address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError) as error:
            told = f"no Ray cluster answers at {job.engine.address!r} ({error})"
            raise UsageError(f"{told}. Start one with `ray start --head`, or leave the address out") from error
    try:
        actors = _keep_alive(ray, job, Total(progress))
        if not ours:
            for actor in actors:
                ray.kill(actor)
    finally:
        if ours:
            ray.shutdown()  # ends them, too


def import_ray() -> Any:
    """Ray, which the extra brings."""
    try:
        import ray
    except ImportError as error:
        raise MissingExtra('the engine ray needs Ray: pip install "vlmsift[ray]"') from error
    return ray


def _keep_alive(ray: Any, job: ScoreJob, total: Total) -> list[Any]:
    """Actors, kept alive until one of them finds no part missing."""
    assert job.model is not None
    gpus = 0 if job.model.device == "cpu" else int(ray.cluster_resources().get("GPU", 0))
    count = job.engine.actors or max(1, gpus)
    how = {"num_cpus": 1, "num_gpus": 1 if gpus else 0, "max_restarts": _FOREVER, "max_task_retries": RESTARTS}
    kind = ray.remote(**how)(Worker)
    alone = replace(job, engine=job.engine.alone())

    def start(place: int) -> Any:
        return kind.remote(replace(alone, shard=Shard(place, count)), os.getcwd(), threads())

    actors = {place: start(place) for place in range(count)}  # kept: an actor that nobody holds is ended
    asked = {actor.work.remote(): place for place, actor in actors.items()}
    starts = dict.fromkeys(actors, 1)
    faults: dict[int, str] = {}
    while asked:
        ready, _ = ray.wait(list(asked), timeout=LOOK_EVERY)
        _look(job, total)
        for one in ready:
            place = asked.pop(one)
            try:
                error = ray.get(one)
            except ray.exceptions.RayError as lost:  # it has died more often than Ray tries again
                error = VlmsiftError(str(lost).strip().splitlines()[0])
            if error is None:
                total.finish()
                return list(actors.values())
            if isinstance(error, FINAL):
                raise error
            faults[place] = str(error)
            if starts[place] <= RESTARTS:
                total.note(f"actor {place}: {error}; it is started again ({starts[place]} of {RESTARTS})")
                starts[place] += 1
                actors[place] = start(place)
                asked[actors[place].work.remote()] = place
    told = "; ".join(f"actor {place}: {fault}" for place, fault in sorted(faults.items()))
    raise VlmsiftError(f"no actor is left ({told}). Start the same command again; finished parts are kept")


def _look(job: ScoreJob, total: Total) -> None:
    """Tell how many rows are there, by the files."""
    from vlmsift.scoring.score import Progress

    home, count = open_folder(job.out), len(job.models)
    places = [home] if count == 1 else [home.inside(f"{INSIDE}/{number + 1:02d}") for number in range(count)]
    runs = [Run(place, read_record(place)) for place in places if place.has(RECORD)]
    there = [run.rows_of(part) for run in runs for part in run.finished_parts()]
    done = sum(len(rows if job.asked is None else job.asked.within(rows)) for rows in there)
    if total.state is None:
        total.before = done
    total.tell(Progress(count * job.count, done, mine=done - total.before))


class Worker:
    """What an actor is: a scoring of its own shard, then of what is missing."""

    def __init__(self, job: ScoreJob, folder: str, threads: int) -> None:
        self.job, self.folder, self.threads = job, folder, threads

    def work(self) -> VlmsiftError | None:
        """Score until no part is missing; an error that the user is to read comes back as a value."""
        import torch

        from vlmsift.scoring.score import run_score

        torch.set_num_threads(self.threads)
        try:
            with suppress(FileNotFoundError):  # then no path may be relative
                os.chdir(self.folder)
            run_score(self.job)
        except VlmsiftError as error:
            return error
        return None
