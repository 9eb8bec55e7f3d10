"""Time and memory of choosing from a million vectors.

    python benchmarks/clusters_memory.py --selector semdedup:clusters=1000
    python benchmarks/clusters_memory.py --selector coincide:clusters=1000 --rows 200000
    python benchmarks/clusters_memory.py --selector "judge then facility_location:vector=vectors"

Writes a run of random unit vectors in 1,000 loose bundles (seed 0) under --out, once, with two random numbers, one of
50 answers and one of 2,000 questions for each row, and lets a selector keep 20 % of it. Prints rows, width, the seconds
of choosing by the clock and of the processor, and the process's largest resident memory.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from vlmsift.runs.run import Run
from vlmsift.selecting import select

PART = 10_000
BUNDLES = 1_000
NUMBERS = ("surprise", "delta_attnmask")


def make_run(folder: Path, rows: int, width: int) -> None:
    """A finished run with the signal `vectors`."""
    told = {"unit": "none", "higher_means": "nothing"}
    signals = {"vectors": {"width": width, **told}, **{name: {"width": 1, **told} for name in NUMBERS}}
    identity = {"data": {"fingerprint": "made"}, "rows": rows, "part_size": PART, "signals": signals}
    run = Run.create_or_resume(folder, {"identity": identity})
    centres = np.random.default_rng(0).standard_normal((BUNDLES, width), np.float32)
    for part in sorted(set(range(-(-rows // PART))) - run.finished_parts()):
        draw = np.random.default_rng([0, part])
        index = np.arange(part * PART, min((part + 1) * PART, rows))
        vectors = centres[draw.integers(0, BUNDLES, len(index))] + draw.standard_normal((len(index), width), np.float32)
        count = len(index)
        columns: dict[str, Any] = {
            "index": index,
            "id": [f"sample-{number}" for number in index],
            "images": np.ones(count, np.int32),
            "status": ["ok"] * count,
            "answer_key": [f"answer {number}" for number in draw.integers(0, 50, count)],
            "question": [f"is thing {number} there" for number in draw.integers(0, 2000, count)],
            **{name: draw.standard_normal(count, np.float32) for name in NUMBERS},
            "vectors": vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        }
        run.write_part(part, columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--selector", default="semdedup:clusters=1000")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--out", type=Path, default=Path("runs/clusters"))
    options = parser.parse_args()
    folder = options.out / f"{options.rows}x{options.width}-numbers"
    make_run(folder, options.rows, options.width)
    run, started, spent = Run.open(folder), time.perf_counter(), time.process_time()
    colon = "," if ":" in options.selector else ":"
    word = options.selector if "vector=" in options.selector else f"{options.selector}{colon}vector=vectors"
    kept = select(run, word, 0.2)
    seconds, cpu = time.perf_counter() - started, time.process_time() - spent
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print("| selector | rows | width | kept | seconds | CPU seconds | peak GiB |\n|---|---|---|---|---|---|---|")
    told = f"{options.rows:,} | {options.width} | {len(kept.ids):,} | {seconds:.0f} | {cpu:.0f} | {most:.1f}"
    print(f"| {options.selector} | {told} |")


if __name__ == "__main__":
    main()
