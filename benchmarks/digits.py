"""What a subset teaches: the embedded model's weak start, fine-tuned on parts of a pool of digits, half of it spoiled.

    python benchmarks/digits.py epochs         # methods x budgets x seeds, each subset seen as often
    python benchmarks/digits.py scorer         # the same at 20 %, scored by the well-trained embedded model
    python benchmarks/digits.py pruned         # the worse part dropped by Delta-AttnMask, 20 % drawn from the rest
    python benchmarks/digits.py steps          # some of them, each training with as many steps
    python benchmarks/digits.py augmentation   # each augmentation at three rates on two small sets

Prints the tables of docs/results.md. Whatever was finished before is not done again; `--jobs 2` shares the cells among
two processes of one thread each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from vlmsift.calibrate import calibrate
from vlmsift.demo import MODEL_PATH, START_PATH
from vlmsift.demo.held_out import write_held_out
from vlmsift.demo.pool import make_pool, read_truth
from vlmsift.demo.teach import RECIPE
from vlmsift.experiment import validate
from vlmsift.scoring.score import score
from vlmsift.selecting import select
from vlmsift.specs import ModelSpec

RATES = (0.25, 0.5, 1.0)
LOSS = {"name": "answer-loss", "signals": ["answer_loss"], "pick": "lowest", "balance": "none"}


def make_data(folder: Path, size: int, seed: int, tests: int) -> dict[str, Path]:
    """The spoiled pool, the ids of its clean samples, and a test set of digits that occur in neither pool nor start."""
    pool = folder / "pool"
    if not (pool / "pool.json").exists():
        make_pool(pool, size, seed)
    clean = folder / "clean.txt"
    clean.write_text("".join(f"{name}\n" for name, row in read_truth(pool).items() if row["kind"] == "clean"))
    return {"pool": pool / "pool.json", "clean": clean, "test": write_held_out(folder / "test", tests)}


def base_plan(data: dict[str, Path], seeds: int, epochs: float) -> dict[str, Any]:
    """What all plans here share."""
    return {
        "pool": str(data["pool"]),
        "test": str(data["test"]),
        "model": {"model": str(START_PATH), "device": "cpu", "dtype": "float32"},
        "seeds": seeds,
        "recipe": {**RECIPE, "epochs": epochs},
    }


def selection_plan(folder: Path, data: dict[str, Path], options: argparse.Namespace) -> dict[str, Any]:
    """Methods x budgets x seeds; Delta-AttnMask as shipped, and as calibration on this pool recommends."""
    found = calibrate(data["pool"], ModelSpec(START_PATH, device="cpu"), folder / "calibration", seed=options.seed)
    config = str(found.config)
    oracle = {"name": "oracle-clean", "ids": str(data["clean"])}
    recommended: dict[str, Any] = {
        "name": "delta-recommended",
        "config": config,
        "by": "delta_attnmask",
        "balance": "auto",
    }
    # masking the image at the decoder's very input: the best setting of an earlier experiment with a weak scorer
    early: dict[str, Any] = {
        "name": "delta-depth-0",
        "signals": ["delta_attnmask:depth=0.0", "hidden_mean"],
        "balance": "auto",
    }
    plan = base_plan(data, options.seeds, options.epochs)
    if options.which == "steps":
        methods = ["full", "random", oracle, "delta-attnmask", early]
        more = {"schedule": "steps", "steps": options.steps, "budgets": ["5%", "20%", "50%"]}
    elif options.which == "scorer":
        plain = {**early, "name": "delta-depth-0-plain", "balance": "none"}
        methods = ["full", "random", oracle, LOSS, "delta-attnmask", "delta-attnmask-plain", early, plain]
        more = {"schedule": "epochs", "scorer": str(MODEL_PATH), "budgets": ["20%"]}
    else:
        few = ["5%", "10%", "20%"]  # half the pool costs more than all of these
        plain = {**early, "name": "delta-depth-0-plain", "balance": "none", "budgets": few}
        recommended["budgets"] = few
        calibrated = {"name": "calibrated", "config": config, "by": "calibrated", "balance": "auto"}
        named = ["full", "random", oracle, LOSS, "delta-attnmask", "delta-attnmask-plain"]
        methods, more = [*named, early, plain, recommended, calibrated], {"schedule": "epochs"}
    return {**plan, "methods": methods, "budgets": ["5%", "10%", "20%", "50%"], **more}


def pruned_plan(folder: Path, data: dict[str, Path], options: argparse.Namespace) -> dict[str, Any]:
    """20 % of the pool drawn at random from its better part by a score: clean as the score, varied as the pool."""
    config = str(
        calibrate(data["pool"], ModelSpec(START_PATH, device="cpu"), folder / "calibration", seed=options.seed).config
    )
    run = score(data["pool"], ModelSpec(START_PATH, device="cpu"), folder / "pruned-run", config=config)
    early = score(
        data["pool"], START_PATH, folder / "pruned-run-0", signals=["delta_attnmask:depth=0.0", "hidden_mean"]
    )
    wanted = {
        "recommended": (run, "delta_attnmask"),
        "depth-0": (early, "delta_attnmask"),
        "loss": (run, "answer_loss"),
    }
    methods: list[Any] = ["full", "random", {"name": "oracle-clean", "ids": str(data["clean"])}]
    for name, (scored, by) in wanted.items():
        for share in ("50%", "35%"):
            pick = "lowest" if by == "answer_loss" else "highest"
            kept = select(scored, f"top:by={by},pick={pick}", share).ids
            path = folder / f"better-{name}-{share}.txt"
            path.write_text("".join(f"{one}\n" for one in kept))
            methods.append({"name": f"{name}-best-{share.rstrip('%')}", "ids": str(path)})
    plan = base_plan(data, options.seeds, options.epochs)
    return {**plan, "methods": methods, "budgets": ["20%"]}


def augmentation_plan(folder: Path, data: dict[str, Path], options: argparse.Namespace) -> dict[str, Any]:
    """Each variant at three rates, on the selected 20 % and on as many clean samples."""
    variants: list[dict[str, Any]] = [{"name": "none"}]
    for rate in RATES:
        shown = f"{rate:g}"
        variants += [
            {"name": f"{name}-{shown}", "variant": name, "probability": rate}
            for name in ("top", "stkim", "hints", "random", "tlm", "headmask", "meap", "neftune")
        ]
    plan = base_plan(data, options.seeds, options.epochs)
    methods: list[Any] = ["delta-attnmask", {"name": "clean", "ids": str(data["clean"])}]
    full = {"name": "full", "augmentations": ["none"]}
    return {**plan, "methods": [full, *methods], "budgets": ["20%"], "augmentations": variants}


def run_plan(path: Path, jobs: int) -> None:
    """Share the cells among processes, then make and print the table."""
    if jobs > 1:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        program = (
            "import sys; from vlmsift.experiment import validate; validate(sys.argv[1], shard=(int(sys.argv[2]), {}))"
        )
        command = [sys.executable, "-c", program.format(jobs), str(path)]
        shards = [subprocess.Popen([*command, str(number)], env=environment) for number in range(jobs)]
        if failed := [shard.wait() for shard in shards if shard.wait()]:
            raise SystemExit(f"{len(failed)} of {jobs} processes failed")
    found = validate(path)
    print(compact(found.rows))
    for note in found.notes:
        print(f"* {note}")


def compact(rows: list[dict[str, Any]]) -> str:
    """The table of a comparison with the columns that a reader compares."""
    names = ["method", "budget", "augmentation", "seeds", "steps", "accuracy", "loss", "relative"]
    names += ["training s", "selection s", "cost ratio", "above random"]
    if {row["augmentation"] for row in rows} == {"none"}:
        names.remove("augmentation")
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    for row in rows:
        said = {
            **{name: str(row[name]) for name in ("method", "budget", "augmentation", "seeds")},
            "steps": number(row["steps"], 0),
            "accuracy": f"{number(row['accuracy'], 3)} +- {number(row['accuracy_std'], 3)}",
            "loss": number(row["loss"], 2),
            "relative": number(row["relative"], 1),
            "training s": number(row["training_seconds"], 0),
            "selection s": number(row["selection_seconds"], 0),
            "cost ratio": number(row["cost_ratio"], 2),
            "above random": {None: "", True: "yes", False: "no"}[row["above_random"]],
        }
        lines.append(f"| {' | '.join(said[name] for name in names)} |")
    bands = {row["budget"]: row for row in rows if row["random_low"] is not None}
    for budget, row in bands.items():
        low, high = number(row["random_low"], 3), number(row["random_high"], 3)
        lines.append(f"\nRandom band at {budget}: {low} to {high}, mean {number(row['random_mean'], 3)}.")
    return "\n".join(lines)


def number(value: float | None, places: int) -> str:
    """Rounded; empty where there is none."""
    return "" if value is None else f"{value:,.{places}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["epochs", "scorer", "pruned", "steps", "augmentation"])
    parser.add_argument("--out", type=Path, default=Path("runs/digits"))
    parser.add_argument("--size", type=int, default=2000, help="samples in the pool, half of them spoiled")
    parser.add_argument("--tests", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0, help="of the pool and the calibration")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--steps", type=int, default=40, help="of the equal-steps schedule")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data = {
        name: path.resolve() for name, path in make_data(options.out, options.size, options.seed, options.tests).items()
    }
    made = {"augmentation": augmentation_plan, "pruned": pruned_plan}.get(options.which, selection_plan)
    path = options.out.resolve() / f"{options.which}.yaml"
    folder = "epochs" if options.which in ("scorer", "pruned") else options.which  # they share cells
    plan = {**made(options.out.resolve(), data, options), "out": str(options.out.resolve() / folder)}
    path.write_text(yaml.safe_dump(plan, sort_keys=False))
    run_plan(path, options.jobs)


if __name__ == "__main__":
    main()
