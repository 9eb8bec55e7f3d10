"""CPU time of one scoring by one process and by several workers: a part's, and what each further process adds.

    python -m benchmarks.workers [--rows 1024] [--part-size 64]

The demo pool and the embedded model, two workers each. CPU time is that of all processes that a start has begun, looked
at every .1 s, so what a process does in its last moments is missed. A start on the finished run gives the fixed cost,
the difference is the parts'. Every run's `signals_hash` is compared.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from vlmsift.demo import MODEL_PATH
from vlmsift.demo.pool import make_pool
from vlmsift.runs import Run
from vlmsift.tables import Record, markdown_table

ENGINES: dict[str, list[list[str]]] = {  # name -> the options of each command that is started
    "one process": [[]],
    "two shards": [["--shard=0/2"], ["--shard=1/2"]],
    "devices cpu,cpu": [["--devices=cpu,cpu"]],
    "ray, two actors": [["--engine=ray", "--actors=2"]],
}


def cpu_seconds(commands: list[list[str]]) -> tuple[float, int]:
    """CPU seconds of these commands and of all that they start, and the number of processes."""
    started = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for command in commands]
    roots = [psutil.Process(one.pid) for one in started]
    seen: dict[int, float] = {}
    while any(one.poll() is None for one in started):
        for process in [*roots, *(child for root in roots for child in _children(root))]:
            try:
                times = process.cpu_times()
                seen[process.pid] = times.user + times.system
            except psutil.Error:
                continue
        time.sleep(0.1)
    assert not any(one.returncode for one in started), "a start has failed"
    return sum(seen.values()), len(seen)


def _children(root: psutil.Process) -> list[psutil.Process]:
    try:
        return list(root.children(recursive=True))
    except psutil.Error:
        return []


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--part-size", type=int, default=64)
    options = parser.parse_args()
    records: list[Record] = []
    with tempfile.TemporaryDirectory() as name:
        pool = make_pool(Path(name) / "pool", options.rows)
        hashes = set()
        for engine, starts in ENGINES.items():
            out = Path(name) / engine
            base = [sys.executable, "-m", "vlmsift", "score", str(pool), f"--model={MODEL_PATH}", f"--out={out}"]
            fixed = ["--device=cpu", "--workers=0", f"--part-size={options.part_size}"]
            commands = [[*base, *fixed, *more] for more in starts]
            whole, processes = cpu_seconds(commands)
            again, _ = cpu_seconds(commands)
            run = Run.open(out)
            hashes.add(run.signals_hash())
            parts = len(run.finished_parts())
            records.append(
                {
                    "engine": engine,
                    "processes": str(processes),
                    "CPU s": f"{whole:.1f}",
                    "CPU s of a start with nothing to do": f"{again:.1f}",
                    "CPU s a part": f"{(whole - again) / parts:.2f}",
                }
            )
            print(markdown_table(records[-1:]), file=sys.stderr)
    print(markdown_table(records))
    print(f"\n{options.rows} rows in parts of {options.part_size}; different signals_hash: {len(hashes)}")


if __name__ == "__main__":
    main()
