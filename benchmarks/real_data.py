"""What a subset teaches on real data: a small VLM, trained from scratch, on easy-VQA and NLVR with planted noise.

    python benchmarks/real_data.py easy_vqa --data FOLDER    # FOLDER holds easy_vqa/ and nlvr/
    python benchmarks/real_data.py nlvr --data FOLDER

A third of the groups (samples that share an image or a source example) trains a base model from scratch, 40 % are the
pool, the rest is the test set. The base is scorer and start of every training. Pools have 0, 20 and 40 % noise: half of
it another sample's image, half another sample's answer. Prints the tables of docs/results.md; finished parts are kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from digits import LOSS, run_plan
from makers import build
from PIL import Image

from vlmsift.evaluate import evaluate
from vlmsift.train import train

NOISES = (0.0, 0.2, 0.4)
SPLITS = {"base": 0.33, "pool": 0.4, "test": 0.27}
PIXELS = {"easy_vqa": 32, "nlvr": 64}
SMALL: dict[str, Any] = {"batch_size": 32, "micro_batch": 32, "gradient_checkpointing": False, "learning_rate": 1e-3}
Row = dict[str, Any]


def split_rows(source: Path, seed: int = 0) -> dict[str, list[Row]]:
    """Rows of each split; a group lies on one side, decided by a hash of its name (and a seed but 0)."""
    rows = json.loads((source / "data.json").read_text())
    groups = [json.loads(line)["group"] for line in (source / "metadata.jsonl").read_text().splitlines()]
    parts: dict[str, list[Row]] = {name: [] for name in SPLITS}
    edges = np.cumsum(list(SPLITS.values()))
    for row, group in zip(rows, groups, strict=True):
        name = f"{seed} {group}" if seed else group
        place = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32
        parts[list(SPLITS)[int(np.searchsorted(edges[:-1], place, side="right"))]].append(row)
    return parts


def spoil(rows: list[Row], noise: float, seed: int) -> tuple[list[Row], list[str]]:
    """Rows with a share of noise, and the ids of the clean ones."""
    rng = np.random.default_rng(seed)
    rows = json.loads(json.dumps(rows))
    bad = rng.permutation(len(rows))[: round(noise * len(rows))]
    originals = json.loads(json.dumps(rows))
    for number, place in enumerate(bad):
        row = rows[place]
        answer = row["conversations"][-1]["value"]
        if number % 2:
            others = [one["image"] for one in originals if one["image"] != row["image"]]
            row["image"] = others[rng.integers(len(others))]
        else:
            others = [text for one in originals if (text := one["conversations"][-1]["value"]) != answer]
            row["conversations"][-1]["value"] = others[rng.integers(len(others))]
    spoiled = {rows[place]["id"] for place in bad}
    return rows, [row["id"] for row in rows if row["id"] not in spoiled]


def write_part(folder: Path, rows: list[Row], source: Path, pixels: int) -> Path:
    """A LLaVA file, and its pictures squeezed to squares."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for row in rows:
        target = folder / row["image"]
        if not target.exists():
            Image.open(source / row["image"]).convert("RGB").resize((pixels, pixels)).save(target)
    path = folder / "data.json"
    path.write_text(json.dumps(rows))
    return path


def unseen(folder: Path, rows: list[Row], shown: list[Path]) -> list[Row]:
    """Rows whose picture is in none of the folders `shown`: NLVR has a few equal pictures in different groups."""

    def digest(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    known = {digest(path) for other in shown for path in (other / "images").iterdir()}
    return [row for row in rows if digest(folder / row["image"]) not in known]


def make_base(folder: Path, data: Path, pixels: int, epochs: float, seed: int = 0) -> Path:
    """The small VLM, trained from scratch, all its parts, on the base split."""
    texts = [turn["value"] for row in json.loads(data.read_text()) for turn in row["conversations"]]
    model, processor = build(seed, pixels, [text.replace("<image>", "") for text in texts])
    untrained = folder / "untrained"
    model.save_pretrained(untrained)
    processor.save_pretrained(untrained)
    parts = ("text", "projector", "vision")
    return train(
        data,
        untrained,
        folder / "base-model",
        seed=seed,
        changes={**SMALL, "epochs": epochs, "train": parts, "weight_decay": 0.05},
    ).folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=list(PIXELS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/real"))
    parser.add_argument("--base-epochs", type=float, default=25)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    source, folder, pixels = options.data / options.which, options.out.resolve() / options.which, PIXELS[options.which]
    parts = split_rows(source)
    files = {name: write_part(folder / name, rows, source, pixels) for name, rows in parts.items()}
    parts["test"] = unseen(folder / "test", parts["test"], [folder / "base", folder / "pool"])
    files["test"] = write_part(folder / "test", parts["test"], source, pixels)
    base = make_base(folder, files["base"], pixels, options.base_epochs)
    known = evaluate(base, files["test"])["all"]
    sizes = ", ".join(f"{len(rows):,} {name}" for name, rows in parts.items())
    print(f"{options.which}: {sizes}; the base answers {known.exact:.3f} of the test, loss {known.loss:.3f} nats")
    for noise in NOISES:
        name = f"noise-{noise:.0%}".replace("%", "")
        rows, clean = spoil(parts["pool"], noise, seed=0)
        pool = write_part(folder / name, rows, source, pixels)
        (folder / f"{name}-clean.txt").write_text("".join(f"{one}\n" for one in clean))
        early = {"name": "delta-depth-0", "signals": ["delta_attnmask:depth=0.0", "hidden_mean"], "balance": "auto"}
        oracle = {"name": "oracle-clean", "ids": str(folder / f"{name}-clean.txt")}
        plan = {
            "pool": str(pool),
            "test": str(files["test"]),
            "model": {"model": str(base), "device": "cpu", "dtype": "float32"},
            "methods": ["full", "random", oracle, LOSS, "delta-attnmask", early],
            "budgets": ["20%"],
            "seeds": options.seeds,
            "recipe": {"name": "llava-1.5", "epochs": options.epochs, **SMALL, "learning_rate": 3e-4},
            "out": str(folder / f"{name}-cells"),
        }
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(plan, sort_keys=False))
        print(f"\n### {options.which}, {noise:.0%} noise\n")
        run_plan(path, options.jobs)


if __name__ == "__main__":
    main()
