"""What reading a pool from an S3 server costs this process beside a disk. In: --rows, --rounds. Out: one table.

    python benchmarks/stores.py

The server is moto's, on this machine, in a process of its own: so the figures are what the client does (signing, HTTP,
copying), without a network's delay, and without TLS. Per sample: CPU milliseconds of this process for reading a row and
decoding its image, the median over rounds in which disk and store take turns; and the requests that it sends. Rows are
read in order. Opening is what comes before the first row: index, ids and the digest of all bytes.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import multiprocessing as mp
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageFilter

from vlmsift.places import StorePath
from vlmsift.pools import Pool, open_image, open_pool

NAMES = {"JSONL, images as files": "pool.jsonl", "Parquet, images inside": "packed.parquet", "tar": "packed.tar"}
GROUP = 32  # rows per row group


def make(folder: Path, rows: int, side: int) -> None:
    """Rows of one question with a JPEG each, as files, in a Parquet file and in an archive."""
    (folder / "images").mkdir()
    draw, lines = np.random.default_rng(0), []
    for row in range(rows):
        pixels = Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        pixels.filter(ImageFilter.GaussianBlur(2)).save(buffer, "JPEG", quality=90)
        (folder / "images" / f"{row}.jpg").write_bytes(buffer.getvalue())
        turns = [{"from": "human", "value": "<image>\nWhat is this?"}, {"from": "gpt", "value": f"Noise {row}."}]
        lines.append(json.dumps({"id": str(row), "image": f"images/{row}.jpg", "conversations": turns}))
    (folder / "pool.jsonl").write_text("\n".join(lines), "utf-8")
    open_pool(folder / "pool.jsonl").export(range(rows), folder / "packed.tar")
    whole = open_pool(folder / "packed.tar").export(range(rows), folder / "packed.parquet")
    pq.write_table(pq.read_table(whole), whole, row_group_size=GROUP)


def serve(pipe: Any) -> None:
    """A server that tells its port, and how many requests it was sent whenever it is asked; None ends it."""
    from moto.server import ThreadedMotoServer

    lines: list[str] = []
    handler, logger = logging.Handler(), logging.getLogger("werkzeug")
    handler.emit = lambda record: lines.append("")  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    pipe.send(server.get_host_and_port()[1])
    while pipe.recv():
        pipe.send(len(lines))
    server.stop()


def read(pool: Pool) -> None:
    """Every row and its image, in order."""
    for row in range(len(pool)):
        for ref in pool[row].images:
            open_image(ref, pool.image_root)


def opened(place: Path | StorePath) -> Pool:
    """The pool, as far as a run asks before its first row."""
    pool = open_pool(place)
    assert len(set(pool.ids)) == len(pool)
    pool.fingerprint()
    return pool


def cpu(action: Callable[[], Any]) -> float:
    """Seconds of this process, all threads."""
    started = time.process_time()
    action()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--side", type=int, default=336, help="Pixels of an image's side.")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    here, there = mp.get_context("spawn").Pipe()
    process = mp.get_context("spawn").Process(target=serve, args=(there,))
    process.start()
    with ExitStack() as stack:
        stack.callback(process.join)
        stack.callback(here.send, False)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "none")
        endpoint = f"http://127.0.0.1:{here.recv()}"
        os.environ |= {**keys, "AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": "us-east-1"}
        make(folder, args.rows, args.side)
        store = fill(folder, endpoint)
        size = sum(file.stat().st_size for file in folder.rglob("*.jpg")) / args.rows / 1024
        print(
            f"{args.rows} rows, images of {args.side} x {args.side}, {size:.0f} KiB; median of {args.rounds} rounds\n"
        )
        print("| pool | open, disk ms | store ms | requests | a sample, disk ms | store ms | requests |")
        print("|---|---|---|---|---|---|---|")
        for name, file in NAMES.items():
            print(f"| {name} | {' | '.join(measured(here, folder / file, store / file, args.rounds))} |", flush=True)


def fill(folder: Path, endpoint: str) -> StorePath:
    """All files of a folder in a new bucket."""
    from pyarrow.fs import S3FileSystem

    S3FileSystem(endpoint_override=endpoint, allow_bucket_creation=True).create_dir("bucket")
    store = StorePath("s3://bucket")
    for file in folder.rglob("*.*"):
        (store / file.relative_to(folder).as_posix()).write_bytes(file.read_bytes())
    return store


def measured(pipe: Any, local: Path, stored: StorePath, rounds: int) -> list[str]:
    """One line of the table: each round opens and reads both, with nothing kept of the round before."""
    times: dict[str, list[float]] = {name: [] for name in ("open", "open there", "read", "read there")}
    sent = {"open": 0, "read": 0}
    for _ in range(rounds + 1):
        with tempfile.TemporaryDirectory() as copies:
            tempfile.tempdir = copies
            for place, where in ((local, ""), (stored, " there")):
                before = requests(pipe)
                times[f"open{where}"].append(cpu(lambda place=place: opened(place)))  # type: ignore[misc]
                sent["open"] = requests(pipe) - before
                pool = opened(place)
                before = requests(pipe)
                times[f"read{where}"].append(cpu(lambda pool=pool: read(pool)))  # type: ignore[misc]
                sent["read"] = requests(pipe) - before
            tempfile.tempdir = None
    rows = len(pool)
    open_here, open_there, here, there = (1000 * statistics.median(times[name][1:]) for name in times)  # one to warm up
    return [
        *(f"{open_here:.1f}", f"{open_there:.1f}", f"{sent['open']}"),
        *(f"{here / rows:.2f}", f"{there / rows:.2f}", f"{sent['read'] / rows:.2f}"),
    ]


def requests(pipe: Any) -> int:
    """How many the server was sent so far."""
    pipe.send(True)
    return int(pipe.recv())


if __name__ == "__main__":
    main()
