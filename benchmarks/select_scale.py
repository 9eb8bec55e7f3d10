"""What choosing from millions of rows costs: one process for each step, each with its own peak of memory.

    python benchmarks/select_scale.py --rows 1000000,5000000
    python benchmarks/select_scale.py --rows 50000000 --out /data/scale

Makes, once, a run of that many rows under --out: 20 float32 signals of random numbers that compress badly, ids, 7
sources, 300 answers and 2,000 questions, one row in 50 an error, one in 20 without an image, parts of 4,096. 64 parts
are drawn (seed 0); the others are these again with their own indices and ids, so that a run is written at the speed of
the disk. Then selects the 20 % of highest value by answer groups and saves them; writes the ids of the saved selection
to a file; counts the rows of a condition; sums the run up. Prints for each step CPU seconds and seconds of the clock,
the peak of resident memory (DuckDB's and Arrow's are in it), and the bytes of temporary files (`spill`).
`--same` chooses the same once more in plain Python (`tests.plain_selection`) and compares row by row.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vlmsift.choosing.selection import Selection
from vlmsift.files import write_atomically
from vlmsift.runs.part_facts import KEY, digest, facts_in
from vlmsift.runs.run import Run
from vlmsift.selecting import select

PART = 4096
SIGNALS = [f"signal_{number}" for number in range(20)]
DRAWN = 64  # parts that are drawn anew
SELECTOR = "top:by=signal_0,balance=answer"
WHERE = "signal_1 > 0.5 and images > 0"
STEPS = ("summary", "select", "save", "ids", "query")


def make_run(folder: Path, rows: int) -> Run:
    """A finished run; parts that are there already stay."""
    told = {"unit": "none", "higher_means": "nothing", "width": 1}
    identity = {"data": {"fingerprint": "made"}, "rows": rows, "part_size": PART}
    run = Run.create_or_resume(folder, {"identity": {**identity, "signals": dict.fromkeys(SIGNALS, told)}})
    for part in sorted(set(range(-(-rows // PART))) - run.finished_parts()):
        count = min(PART, rows - part * PART)
        if part < DRAWN or count < PART:
            run.write_part(part, drawn(part, count))
        else:
            repeat(run, part % DRAWN, part)
    return run


def drawn(part: int, count: int) -> dict[str, Any]:
    """Columns of one part, random but for index and id."""
    draw = np.random.default_rng([0, part])
    failed = draw.random(count) < 0.02
    index = np.arange(part * PART, part * PART + count)
    return {
        "index": index,
        "id": [f"sample-{number}" for number in index],
        "source": [f"source {number}" for number in draw.integers(0, 7, count)],
        "answer_key": [None if one >= 300 else f"answer {one}" for one in draw.zipf(1.3, count).clip(0, 350)],
        "question": [f"is there a thing {number} here" for number in draw.integers(0, 2000, count)],
        "images": (draw.random(count) > 0.05).astype(np.int32),
        "answer_tokens": draw.integers(1, 20, count),
        "status": np.where(failed, "error", "ok").tolist(),
        "reason": ["missing image: it is not there" if bad else None for bad in failed],
        **{name: np.where(failed, np.nan, draw.standard_normal(count)).astype(np.float32) for name in SIGNALS},
    }


def repeat(run: Run, old: int, new: int) -> None:
    """Write part `new` with what part `old` holds, under its own indices and ids."""
    table = read_once(run.folder / "signals" / f"part-{old:06d}.parquet")
    facts = facts_in(table.schema.metadata)
    assert facts is not None
    index = pa.array(np.arange(new * PART, new * PART + len(table)))
    ids = pc.binary_join_element_wise("sample-", pc.cast(index, pa.string()), "")
    for name, values in (("index", index), ("id", ids)):
        place = table.column_names.index(name)
        table = table.set_column(place, table.schema.field(name), values)
        facts.digests[name] = digest(values)
    table = table.replace_schema_metadata({KEY: facts.encode()})
    path = run.folder / "signals" / f"part-{new:06d}.parquet"
    write_atomically(path, lambda temporary: pq.write_table(table, temporary, compression="none"))


@cache
def read_once(path: Path) -> Any:
    """A drawn part's table; all of them together take 40 MB."""
    return pq.read_table(path)


def step(name: str, folder: Path) -> str:
    """Do one step; what is told of it."""
    run = Run.open(folder)
    if name == "summary":
        return f"{run.summary()['ok']:,} ok rows; hash {run.signals_hash()[:8]}"
    if name == "query":
        return f"{len(run.query(WHERE)):,} rows where {WHERE}"
    if name == "ids":
        count = 0
        with (folder / "ids.txt").open("w") as file:
            for one in Selection.load(run, "scale").ids:
                file.write(f"{one}\n")
                count += 1
        (folder / "ids.txt").unlink()
        return f"{count:,} ids"
    chosen = select(run, SELECTOR, "20%")
    if name == "save":
        size = chosen.save("scale").stat().st_size
        return f"{size / 2**20:,.0f} MiB of decisions (select and save)"
    return f"{chosen.made_by['budget']:,} rows kept of {chosen.made_by['rows']:,}"


def measured(name: str, folder: Path) -> dict[str, Any]:
    """One step in a process of its own."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as spill:
        command = [sys.executable, __file__, "--step", name, "--out", str(folder)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": spill})
        most = 0
        while child.poll() is None:
            most = max(most, sum(file.stat().st_size for file in Path(spill).rglob("*") if file.is_file()))
            time.sleep(0.5)
        assert child.stdout is not None
        if child.returncode:
            raise SystemExit(f"step {name} failed")
        return {**json.loads(child.stdout.read().splitlines()[-1]), "spill": most}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1000000")
    parser.add_argument("--out", type=Path, default=Path("runs/scale"))
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--same", action="store_true")
    parser.add_argument("--remove", action="store_true", help="remove each run of --out after it was measured")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        started = time.perf_counter()
        told = step(options.step, options.out)
        used = resource.getrusage(resource.RUSAGE_SELF)
        record = {"cpu": used.ru_utime + used.ru_stime, "clock": time.perf_counter() - started}
        print(json.dumps({**record, "peak": used.ru_maxrss / 2**20, "told": told}))
        return
    print("| rows | step | CPU s | clock s | peak GiB | spill MiB | |\n|---|---|---|---|---|---|---|")
    for rows in map(int, options.rows.split(",")):
        folder = options.out / str(rows)
        make_run(folder, rows)
        for name in options.steps.split(","):
            one = measured(name, folder)
            figures = f"{one['cpu']:.1f} | {one['clock']:.1f} | {one['peak']:.2f} | {one['spill'] / 2**20:.0f}"
            print(f"| {rows:,} | {name} | {figures} | {one['told']} |", flush=True)
        if options.same:
            from tests.plain_selection import compare

            print(f"{rows:,} rows: {compare(Run.open(folder), SELECTOR, '20%')}")
        if options.remove:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
