"""How much of a batch is padding, what that costs, and what is left for padding-free packing to win.

    python benchmarks/padding.py --before TREE     # the demo's scoring with TREE/src and with this tree's, in turns
    python benchmarks/padding.py --forward         # a forward's fixed cost against that of its tokens, on one core
    python benchmarks/padding.py --lengths         # padding on lengths like those of LLaVA-665K, without a model

TREE is a checkout of the code to compare with (git archive COMMIT | tar x). Times are CPU seconds of the scoring
alone, worker processes included, medians over rounds; ratios are of runs side by side. Lengths are drawn: per source a
share of the pool, a median and a spread of its text, and an image that takes 576 tokens or one per 28 x 28 pixels.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
LARGER = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
SOURCES = {  # share of LLaVA-665K's rows; median and log-spread of text tokens; sides of the images, in pixels
    "conversation": (0.087, 330, 0.45, (640, 480)),
    "detail": (0.035, 160, 0.25, (640, 480)),
    "reasoning": (0.115, 190, 0.3, (640, 480)),
    "text alone": (0.061, 900, 0.8, None),
    "vqa": (0.125, 110, 0.6, (640, 480)),
    "gqa": (0.108, 220, 0.5, (500, 375)),
    "ocr": (0.12, 130, 0.25, (350, 500)),
    "multiple choice": (0.113, 90, 0.3, (640, 480)),
    "captions": (0.033, 60, 0.25, (1024, 768)),
    "regions": (0.203, 350, 0.6, (640, 480)),
}
Packer = Callable[[list[int]], list[list[int]]]


def scored(tree: Path, pool: Path, workers: int, more: dict[str, str]) -> dict[str, float]:
    """What one scoring of the pool with that tree's code took, in a process of its own."""
    command = [sys.executable, __file__, "--one", str(pool), "--workers", str(workers)]
    environment = {**os.environ, **more, "PYTHONPATH": str(tree / "src")}
    told: dict[str, float] = json.loads(subprocess.check_output(command, env=environment).splitlines()[-1])
    return told


def one(pool: Path, workers: int) -> None:
    """Score the pool as the demo does; print CPU seconds, batches, and tokens with and without padding."""
    from vlmsift.demo import MODEL_PATH
    from vlmsift.demo.run import SIGNALS
    from vlmsift.models import open_model
    from vlmsift.scoring.score import score
    from vlmsift.specs import EngineSpec

    batches: Any = importlib.import_module("vlmsift.scoring.batches")
    counts = {"batches": 0, "tokens": 0, "padded": 0}
    measure = batches.measure

    def counted(capture: Any, batch: Any, needs: Any, **how: Any) -> Any:
        for name, more in (("batches", 1), ("tokens", int(batch.valid.sum())), ("padded", batch.valid.numel())):
            counts[name] += more
        return measure(capture, batch, needs, **how)

    batches.measure = counted
    model = open_model(MODEL_PATH)
    with tempfile.TemporaryDirectory() as folder:
        before = cpu_seconds()
        score(pool / "pool.json", model, Path(folder) / "run", signals=SIGNALS, engine=EngineSpec(workers=workers))
        print(json.dumps({"seconds": cpu_seconds() - before, **counts}))


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def demo_table(before: Path, rows: int, rounds: int, workers: int, malloc: bool) -> None:
    """Print padding and CPU of the demo's scoring by the other tree and by this one."""
    from vlmsift.demo.pool import make_pool

    ways: dict[str, tuple[Path, dict[str, str]]] = {"before": (before, {}), "this tree": (ROOT, {})}
    if malloc:
        ways |= {f"{way}, larger malloc thresholds": (tree, LARGER) for way, (tree, _) in ways.items()}
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        pool = make_pool(Path(folder) / "pool", size=rows, seed=0).parent
        for _ in range(rounds):
            for way, (tree, more) in ways.items():
                found[way].append(scored(tree, pool, workers, more))
    print(f"{rows} rows of the demo's pool, its signals, {workers} worker(s), {rounds} rounds in turns")
    print("| code | batches | padding | CPU s, median | range | against before |")
    print("|---|---|---|---|---|---|")
    base = [one["seconds"] for one in found["before"]]
    for way, told in found.items():
        seconds = [one["seconds"] for one in told]
        ratio = statistics.median(own / other for own, other in zip(seconds, base, strict=True))
        padding = 1 - told[0]["tokens"] / told[0]["padded"]
        spread = f"{min(seconds):.1f}-{max(seconds):.1f}"
        print(
            f"| {way} | {told[0]['batches']:.0f} | {padding:.1%} | {statistics.median(seconds):.1f} | {spread} | "
            f"{ratio - 1:+.0%} |"
        )


def forward_table(rounds: int) -> None:
    """Print CPU time of batches of one length, and the line through the small ones: fixed cost, cost of a token."""
    import torch

    from vlmsift.demo import MODEL_PATH
    from vlmsift.demo.questions import draw_samples
    from vlmsift.models import open_model
    from vlmsift.passes.capture import Capture
    from vlmsift.passes.measure import measure
    from vlmsift.signals import DEFAULT_SIGNALS, build_signals

    torch.set_num_threads(1)
    model = open_model(MODEL_PATH)
    encoder = model.encoder(_opened)
    needs = [need for signal in build_signals(list(DEFAULT_SIGNALS)).values() for need in signal.needs]
    encoded = [encoder.encode(sample) for sample in draw_samples("pool", 256)]
    middle = statistics.mode(map(len, encoded))
    alike = [sample for sample in encoded if len(sample) == middle]
    sizes = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    for number in range(rounds + 1):
        for size in sizes:
            batch = encoder.collate([alike[place % len(alike)] for place in range(size)])
            started = time.process_time()
            with Capture(model) as capture:
                measure(capture, batch, needs)
            if number:
                seconds[size].append(time.process_time() - started)
    medians = {size: 1e3 * statistics.median(seconds[size]) for size in sizes}
    print("| samples | tokens | CPU ms | us a token |")
    print("|---|---|---|---|")
    for size, spent in medians.items():
        print(f"| {size} | {size * middle} | {spent:.1f} | {1e3 * spent / size / middle:.0f} |")
    small = [size for size in sizes if size * middle <= 2048]
    slope, fixed = np.polyfit([size * middle for size in small], [medians[size] for size in small], 1)
    print(f"fixed {fixed:.1f} ms, {1e3 * slope:.0f} us a token: a forward costs as much as {fixed / slope:.0f} tokens")


def _opened(ref: Any) -> Any:
    from io import BytesIO

    from PIL import Image

    return Image.open(BytesIO(ref))


def draw_lengths(count: int, tiles: bool, seed: int) -> list[int]:
    """Tokens of `count` samples; an image takes 576, or with `tiles` as many as it has tiles of 28 x 28 pixels."""
    rng = np.random.default_rng(seed)
    shares = np.array([source[0] for source in SOURCES.values()])
    lengths = []
    for place in rng.choice(len(shares), count, p=shares / shares.sum()):
        _, median, spread, sides = list(SOURCES.values())[place]
        text = min(2048, 40 + median * float(np.exp(spread * rng.standard_normal())))
        image = 0
        if sides is not None:
            wide, high = (side * float(np.exp(0.15 * rng.standard_normal())) for side in sides)
            image = round(wide / 28) * round(high / 28) if tiles else 576
        lengths.append(round(text) + image)
    return lengths


def fill(lengths: list[int], budget: int = 8192) -> list[list[int]]:
    """Batches filled to the budget, whatever that pads: what was done before."""
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


def lengths_table(count: int) -> None:
    """Print the padding of each way to pack, for two kinds of images."""
    from vlmsift.scoring.packing import WINDOW, pack

    ways: list[tuple[str, int, Packer]] = [
        ("filled, as before", 128, fill),
        ("filled", WINDOW, fill),
        ("at least cost", WINDOW, partial(pack, budget=8192)),
    ]
    print(f"{count} lengths, 8192 tokens a batch, seeds 0-2: padding (batches)")
    print("| packing | window | 576 tokens an image | a token per 28 x 28 pixels |")
    print("|---|---|---|---|")
    for name, window, packer in ways:
        cells = []
        for tiles in (False, True):
            shares, batches = [], 0
            for seed in range(3):
                lengths = draw_lengths(count, tiles, seed)
                padded = 0
                for start in range(0, count, window):
                    part = lengths[start : start + window]
                    groups = packer(part)
                    batches += len(groups)
                    padded += sum(len(group) * max(part[place] for place in group) for group in groups)
                shares.append(1 - sum(lengths) / padded)
            cells.append(f"{min(shares):.1%}-{max(shares):.1%} ({batches // 3})")
        print(f"| {name} | {window} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of the code to compare with")
    parser.add_argument("--forward", action="store_true")
    parser.add_argument("--lengths", action="store_true")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--malloc", action="store_true", help="both trees with larger malloc thresholds too")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one, options.workers)
    if options.forward:
        forward_table(options.rounds)
    if options.lengths:
        lengths_table(20 * 512)
    if options.before:
        demo_table(options.before, options.rows, options.rounds, options.workers, options.malloc)


if __name__ == "__main__":
    main()
