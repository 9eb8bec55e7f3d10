"""Time and peak memory of reading and exporting a LLaVA JSON of about 1 GB. In: --rows. Out: one table.

    python benchmarks/formats_memory.py --rows 665000

The file is made in a temporary folder, in the proportions of the well-known mix of 665 k rows: several rounds of
dialogue with some emoji, one row in seventeen without an image. Each step runs in a process of its own, whose peak
resident memory is read at its end; the mapped file counts in it as far as it was touched.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

WORDS = [
    "the",
    "a",
    "small",
    "red",
    "bus",
    "stands",
    "in",
    "front",
    "of",
    "an",
    "old",
    "house",
    "with",
    "two",
    "open",
    "windows",
    "while",
    "people",
    "wait",
    "😀",
    "café",
]


def make(path: Path, rows: int) -> None:
    """Write `rows` LLaVA rows of about 1.5 kB each, indented by one space as `json.dump(indent=1)` does."""
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for index in range(rows):
            turns = []
            for turn in range(2 * draw.randint(1, 6)):
                text = " ".join(draw.choices(WORDS, k=draw.randint(8, 55)))
                mark = "<image>\n" if turn == 0 and index % 17 else ""
                turns.append({"from": ("human", "gpt")[turn % 2], "value": mark + text})
            image = {"image": f"coco/train2017/{index:012d}.jpg"} if index % 17 else {}
            row = {"id": f"{index:012d}", **image, "conversations": turns}
            file.write(("[\n" if index == 0 else ",\n") + json.dumps(row, ensure_ascii=False, indent=1))
        file.write("\n]\n")


def open_only(path: Path, out: Path) -> None:
    """Open the pool and name its rows."""
    from vlmsift.pools import open_pool

    len(open_pool(path).ids)


def read(path: Path, out: Path) -> None:
    """Read every sample."""
    from vlmsift.pools import open_pool

    pool = open_pool(path)
    for index in range(len(pool)):
        pool[index]


def export_fifth(path: Path, out: Path) -> None:
    """Export a random 20 % as JSON."""
    from vlmsift.pools import open_pool

    pool = open_pool(path)
    pool.export(sorted(random.Random(0).sample(range(len(pool)), len(pool) // 5)), out / "fifth.json")


def export_all(path: Path, out: Path) -> None:
    """Export 100 % as JSON and compare with the source."""
    from vlmsift.pools import open_pool

    pool = open_pool(path)
    written = pool.export(range(len(pool)), out / "all.json")
    if open_pool(written).fingerprint() != pool.fingerprint():
        raise SystemExit("the exported file differs from its source")


def export_parquet(path: Path, out: Path) -> None:
    """Move 100 % to Parquet."""
    from vlmsift.pools import open_pool

    pool = open_pool(path)
    pool.export(range(len(pool)), out / "all.parquet")


def export_messages(path: Path, out: Path) -> None:
    """Convert 100 % to chat messages as JSONL."""
    from vlmsift.pools import open_pool

    pool = open_pool(path)
    pool.export(range(len(pool)), out / "messages.jsonl", format="messages")


STEPS: dict[str, Callable[[Path, Path], None]] = {
    step.__name__: step for step in (open_only, read, export_fifth, export_all, export_parquet, export_messages)
}


def main() -> None:
    """Make the file, run each step in a fresh process, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=665_000)
    parser.add_argument("--step", choices=STEPS, help="run one step on --path, print its numbers")
    parser.add_argument("--path", type=Path)
    arguments = parser.parse_args()
    if arguments.step:
        start = time.perf_counter()
        STEPS[arguments.step](arguments.path, arguments.path.parent)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        print(time.perf_counter() - start, peak)
        return
    with tempfile.TemporaryDirectory(prefix="vlmsift formats ") as folder:
        path = Path(folder, "pool.json")
        make(path, arguments.rows)
        size = path.stat().st_size
        print(f"{arguments.rows} rows, {size / 1e9:.2f} GB\n\n| step | seconds | peak GB |\n|---|---|---|")
        for name, step in STEPS.items():
            command = [sys.executable, __file__, "--step", name, "--path", str(path)]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds, used = map(float, printed.split())
            print(f"| {step.__doc__} | {seconds:.1f} | {used / 1e9:.2f} |", flush=True)


if __name__ == "__main__":
    main()
