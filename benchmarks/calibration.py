"""Does what `calibrate` recommends hold on plants that it has not seen?

    python benchmarks/calibration.py --model embedded    # the shipped model, which answers nearly everything
    python benchmarks/calibration.py --model start       # its weak start

Calibrates on the demo pool, then scores fresh originals and fresh twins, drawn with other seeds, by the recommended
setting and by the shipped default. Prints seconds, and the mean AUROC over the kinds of plants for each seed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from vlmsift.calibrate import calibrate
from vlmsift.demo import MODEL_PATH, START_PATH
from vlmsift.demo.pool import make_pool
from vlmsift.specs import ModelSpec

MODELS = {"embedded": MODEL_PATH, "start": START_PATH}
DEFAULT = "delta_attnmask"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(MODELS), default="embedded")
    parser.add_argument("--out", type=Path, default=Path("runs/calibration"))
    parser.add_argument("--size", type=int, default=3000)
    parser.add_argument("--fresh", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    model, folder = MODELS[options.model], options.out / options.model
    pool = folder.parent / f"pool-{options.size}" / "pool.json"
    if not pool.exists():
        make_pool(pool.parent, options.size, 0)
    started = time.perf_counter()
    found = calibrate(pool, ModelSpec(model, device="cpu"), folder / "seed0")
    print(f"{options.model}, pool of {options.size:,}: calibrated in {time.perf_counter() - started:.0f} s")
    for sentence in found.sentences:
        print(f"* {sentence}")
    print(f"\nrecommended: {found.recommended}\n")
    print("| plants of seed | shipped default | recommended | answer_loss |")
    print("|---|---|---|---|")
    words = list(dict.fromkeys([f"default={DEFAULT}", f"recommended={found.recommended}", "answer_loss"]))
    for seed in options.fresh:
        fresh = calibrate(pool, ModelSpec(model, device="cpu"), folder / f"fresh{seed}", grid=words, seed=seed)
        mean = {row["column"]: row["auroc_mean"] for row in fresh.table}
        print(
            f"| {seed} | "
            + " | ".join(f"{mean[name]:.3f}" for name in ("default", "recommended", "answer_loss"))
            + " |"
        )


if __name__ == "__main__":
    main()
