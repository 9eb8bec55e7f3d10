"""What a worker pays before its first sample of a large pool, the first time and ever after.

    python benchmarks/pool_opening.py --rows 5000000 --container jsonl

Writes, once, a pool of that many short rows (two turns, an image's path, an id, a source) under --out, and empties its
cache. Then two processes, one after the other, open it and decode the rows of one part (4,096 in the middle) with their
ids and sources, and ask for the fingerprint. Prints for each: seconds to the first sample, of the clock and of the CPU,
CPU seconds until all is done, and how much resident memory grew over what the imports take; then the size of the cache.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vlmsift.pools import open_pool

PART = 4096


def row(number: int) -> dict[str, object]:
    asked = {"from": "human", "value": f"<image>\nIs there a thing of the kind {number % 977} in this picture?"}
    said = {"from": "gpt", "value": "Yes, and it stands beside another one, which is a little smaller than it is."}
    source = f"source {number % 7}"
    return {"id": f"sample-{number}", "image": f"images/{number}.png", "source": source, "conversations": [asked, said]}


def make_pool(path: Path, rows: int) -> None:
    """The pool's file, where it is not there yet."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        with path.open("w") as file:
            file.writelines(json.dumps(row(number)) + "\n" for number in range(rows))
        return
    schema = pa.Table.from_pylist([row(0)]).schema
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, PART):
            several = [row(at) for at in range(start, min(start + PART, rows))]
            writer.write_table(pa.Table.from_pylist(several, schema))


def resident() -> float:
    """MiB that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def open_one_part(path: Path) -> None:
    before, started, used = resident(), time.perf_counter(), time.process_time()
    pool = open_pool(path)
    middle = len(pool) // 2
    first = pool[middle]
    seconds, first_cpu = time.perf_counter() - started, time.process_time() - used
    samples = [pool[at] for at in range(middle, min(middle + PART, len(pool)))]
    pool.fingerprint()
    total, peak = time.process_time() - used, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10 - before
    assert samples[0] == first
    assert first.id == f"sample-{middle}"
    print(f"{seconds:.2f} | {first_cpu:.2f} | {total:.2f} | {peak:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--container", choices=["jsonl", "parquet"], default="jsonl")
    parser.add_argument("--out", type=Path, default=Path("runs/opening"))
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    path = options.out / f"{options.rows}.{options.container}"
    if options.one:
        open_one_part(path)
        return
    make_pool(path, options.rows)
    time.sleep(2.5)  # a file that was just written may change again unseen
    cache = options.out / "cache"
    for file in cache.glob("*.arrow"):
        file.unlink()
    print("| container | rows | time | first sample, clock s | CPU s | part and fingerprint, CPU s | peak MiB |")
    print("|---|---|---|---|---|---|---|")
    for which in ("first", "second"):
        command = [sys.executable, __file__, "--one", "--rows", str(options.rows), "--container", options.container]
        done = subprocess.run(
            [*command, "--out", str(options.out)],
            env={**os.environ, "VLMSIFT_CACHE": str(cache)},
            capture_output=True,
            text=True,
            check=True,
        )
        print(f"| {options.container} | {options.rows:,} | {which} | {done.stdout.strip()}", flush=True)
    print(f"cache: {sum(file.stat().st_size for file in cache.glob('*.arrow')) / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
