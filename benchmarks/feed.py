"""What a sample costs the main process between a worker and the model: received, put together, rounded.

    python benchmarks/feed.py                  # images of 1.3 MiB (like LLaVA's) and 13.5 MiB (like Qwen's)
    python benchmarks/feed.py --dtype float32

A worker sends random float32 images; the main process does nothing else. Before: the pipe, and a batch rounded to the
model's precision, as it was. After: the worker rounds and writes to shared memory, and one copy makes the batch. CPU
milliseconds of the main process a sample, medians over rounds that take turns, each in a process of its own; the rows
must be equal, bit by bit. A batch is small enough for its memory to be used again, as pinned memory is.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import time
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.scoring.large import feed

from vlmsift.models import Encoded
from vlmsift.models.encode import concatenate
from vlmsift.scoring.memory import keep_memory

SIZES = {"LLaVA, 1.3 MiB": int(1.3 * 2**20), "Qwen, 13.5 MiB": int(13.5 * 2**20)}
Steps = dict[str, float]


def batches(items: Iterator[Encoded], size: int) -> Iterator[list[Encoded]]:
    while batch := [item for _, item in zip(range(size), items, strict=False)]:
        yield batch


def spend(told: Connection, size: int, dtype: torch.dtype, after: bool, count: int, per_batch: int) -> None:
    """Tell the CPU ms a sample of each step, and the digest of all images. The first batch is not counted."""
    if after:
        keep_memory()
    how = {"dtype": dtype} if after else {"shared_bytes": 0}
    items = (item.encoded for item in feed(workers=1, size=size, count=count + per_batch, **how) if item.encoded)
    steps: Steps = {}
    digest = hashlib.sha256()
    groups = batches(items, per_batch)
    for number in range(count // per_batch + 1):
        clock = [time.process_time()]
        images = [one.images["pixels"] for one in next(groups)]
        clock.append(time.process_time())
        joined: Tensor = concatenate(images, [8], False) if after else torch.cat(images)
        clock.append(time.process_time())
        joined = joined.to(dtype)
        clock.append(time.process_time())
        for name, start, end in zip(("receive", "collate", "cast"), clock, clock[1:], strict=False):
            steps[name] = steps.get(name, 0.0) + 1e3 * (end - start) / count if number else 0.0
        digest.update(joined.view(torch.uint8).numpy().data)
        del images, joined
    told.send((steps, digest.hexdigest()))


def spent(*how: object) -> tuple[Steps, str]:
    """What `spend` tells, of a process of its own."""
    fork = get_context("fork")
    ours, theirs = fork.Pipe()
    process = fork.Process(target=spend, args=(theirs, *how))
    process.start()
    told: tuple[Steps, str] = ours.recv()
    process.join()
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    torch.set_num_threads(1)
    print(
        f"{options.samples} samples, {options.batch} a batch, {options.dtype}, {options.rounds} rounds; CPU ms a sample"
    )
    print("| images | way | receive | collate | cast | all | range |")
    print("|---|---|---|---|---|---|---|")
    for name, size in SIZES.items():
        found: dict[bool, list[Steps]] = {False: [], True: []}
        digests = set()
        for _ in range(options.rounds):
            for after in (False, True):
                steps, digest = spent(size, dtype, after, options.samples, options.batch)
                found[after].append(steps)
                digests.add(digest)
        for after, rounds in found.items():
            cells = [statistics.median(one[step] for one in rounds) for step in rounds[0]]
            sums = [sum(one.values()) for one in rounds]
            told = " | ".join(f"{cell:.2f}" for cell in [*cells, statistics.median(sums)])
            print(f"| {name} | {'after' if after else 'before'} | {told} | {min(sums):.2f}-{max(sums):.2f} |")
        print(f"rows of {name}: {'equal' if len(digests) == 1 else 'NOT EQUAL'}")


if __name__ == "__main__":
    main()
