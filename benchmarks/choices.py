"""Every rule on every pool: what its subset teaches, against a random draw, the oracle and the whole.

    python benchmarks/choices.py spoiled-50 redundant --seed 303           # pools of benchmarks/digit_pools.py
    python benchmarks/choices.py easy_vqa-0 easy_vqa-40 --data FOLDER      # real pictures; FOLDER holds easy_vqa/
    python benchmarks/choices.py spoiled-50 redundant --find               # no training: what signals and plants tell
    python benchmarks/choices.py summary                                   # one page, and every table that was made
    python benchmarks/choices.py variants                                  # the default, and other parts in it

Scorer and start of every training is the embedded model's weak start, of easy-VQA a model that was trained from scratch
on another part; `--scorer trained` scores the digits with the well-trained model. The seed is of pool, test set, split
and base model. Prints the tables of docs/results.md: mean and deviation over seeds of training and choosing, and the
difference to the random draw and to the full pool, paired by seed where both have it, with a bootstrap interval.
Whatever was finished before is not done again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from digit_pools import KINDS, make_data
from digits import number
from method_tables import markdown
from real_data import PIXELS, SMALL, make_base, split_rows, spoil, unseen, write_part
from sklearn.metrics import roc_auc_score

from vlmsift.demo import MODEL_PATH, START_PATH
from vlmsift.demo.teach import RECIPE
from vlmsift.experiment import Result, validate
from vlmsift.methods import METHODS
from vlmsift.models import open_model
from vlmsift.plants.share import tell_share
from vlmsift.pools import open_pool
from vlmsift.scoring.score import score
from vlmsift.specs import EngineSpec, ModelSpec

BASICS = ["random", "oracle", "delta-attnmask", "perplexity-low", "facility-location", "coincide"]
COVER = "facility_location"
SELECTORS = {
    "judge-half": f"judge:drop=0.5 then {COVER}",  # without plants
    "judge-weight-0": f"judge:weight=0 then {COVER}",
    "judge-weight-1": f"judge:weight=1 then {COVER}",
    "judge-by-loss": f"judge:by=answer_loss,weight=0 then {COVER}",
    "judge-by-form": f"judge:balance=form then {COVER}",
    "judge-no-guard": f"judge:guard=0 then {COVER}",
    "judge-random": "judge",
    "judge-k-center": "judge then k_center",
    "judge-best-of-clusters": "judge then top:by=surprise,pick=lowest,balance=clusters",
}
VARIANTS: dict[str, dict[str, Any]] = {
    name: {"signals": list(METHODS["judge-cover"].signals), "selector": word} for name, word in SELECTORS.items()
}
VARIANTS["judge-by-tokens"] = {  # Min-K: the mean over the most surprising third of the tokens
    "signals": ["tokens=surprise:of=tokens,highest=0.3", "delta_attnmask", "hidden_mean"],
    "selector": f"judge:by=tokens then {COVER}",
}
"""Name -> what a plan needs of it: signals and a selector."""
REAL = ("easy_vqa-0", "easy_vqa-20", "easy_vqa-40")
RESAMPLES = 2000


def make_plan(kind: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Pool, test set, model and recipe of a plan, and the oracle's ids."""
    device = {"device": "cpu", "dtype": "float32"}
    if kind in KINDS:
        data = make_data(kind, folder, options.rows, options.seed, options.tests)
        plan: dict[str, Any] = {"model": {"model": str(START_PATH), **device}}
        plan["recipe"] = {**RECIPE, "epochs": options.epochs}
        if options.scorer == "trained":
            plan["scorer"] = {"model": str(MODEL_PATH), **device}
    else:
        data, base = make_real(kind, folder, options)
        plan = {"model": {"model": str(base), **device}}
        plan["recipe"] = {"name": "llava-1.5", **SMALL, "epochs": 3, "learning_rate": 3e-4}
    return {**plan, "pool": str(data["pool"]), "test": str(data["test"]), "oracle": str(data["oracle"])}


def make_real(kind: str, folder: Path, options: argparse.Namespace) -> tuple[dict[str, Path], Path]:
    """A real pool with noise, its oracle and test set, and the base model."""
    name, _, noise = kind.rpartition("-")
    source, pixels = options.data / name, PIXELS[name]
    shared = folder.with_name(f"{name}-{options.seed}")
    parts = split_rows(source, options.seed)
    files = {part: write_part(shared / part, rows, source, pixels) for part, rows in parts.items()}
    parts["test"] = unseen(shared / "test", parts["test"], [shared / "base", shared / "pool"])
    files["test"] = write_part(shared / "test", parts["test"], source, pixels)
    base = make_base(shared, files["base"], pixels, options.base_epochs, options.seed)
    rows, clean = spoil(parts["pool"], int(noise) / 100, seed=options.seed + 1000)  # no seed that plants are drawn by
    pool = write_part(folder / "pool", rows, source, pixels)
    (folder / "oracle.txt").write_text("".join(f"{one}\n" for one in clean))
    return {"pool": pool, "oracle": folder / "oracle.txt", "test": files["test"]}, base


FOUND = ("answer_loss", "surprise", "delta_attnmask", "el2n", "entropy")


def find_spoiled(kind: str, options: argparse.Namespace) -> list[str]:
    """A pool's share of spoiled samples, what plants tell of it, and the AUROC of each signal."""
    folder = options.out.resolve() / f"{kind}-{options.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    plan = make_plan(kind, folder, options)
    pool, model = open_pool(plan["pool"]), open_model(ModelSpec(**plan.get("scorer", plan["model"])))
    scored = f"found-{options.scorer}"
    run = score(pool, model, folder / scored, signals=list(FOUND), engine=EngineSpec(workers=0))
    table = run.table(["id", *FOUND])
    bad = np.isin(np.array(table["id"].to_pylist()), list(wrong_ids(kind, folder, Path(plan["oracle"]), table["id"])))
    told = tell_share(run, pool, model, engine=EngineSpec(workers=0))
    share = "" if told.share is None else f"{told.share:.2f} [{told.low:.2f}, {told.high:.2f}]"
    row = [kind, f"{bad.mean():.3f}", share]
    for name in FOUND:
        values = table[name].to_numpy()
        values = -values if name == "delta_attnmask" else values
        row.append(f"{roc_auc_score(bad, values):.3f}" if bad.any() else "")
    return row


def wrong_ids(kind: str, folder: Path, oracle: Path, ids: Any) -> set[str]:
    """Samples whose picture and answer do not belong together; a copy is not one."""
    if kind in KINDS:
        return set((folder / "pool" / "wrong.txt").read_text().split())
    return set(ids.to_pylist()) - set(oracle.read_text().split())


def arm(name: str, oracle: str) -> Any:
    """A method as a plan has it."""
    if name == "oracle":
        return {"name": name, "ids": oracle}
    if name in VARIANTS:
        return {"name": name, **VARIANTS[name]}
    return name


def run_pool(kind: str, options: argparse.Namespace) -> list[Result]:
    """All trainings of one pool."""
    folder = options.out.resolve() / f"{kind}-{options.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    shared = make_plan(kind, folder, options)
    oracle = shared.pop("oracle")
    scored = "" if options.scorer == "weak" else f"-{options.scorer}"
    shared |= {"redraw": True, "out": str(folder / f"cells{scored}"), "schedule": options.schedule}
    if options.schedule == ["steps"]:
        shared["steps"] = options.steps
    results: list[Result] = []
    for methods, seeds in ((["full"], options.full_seeds), (options.methods, options.seeds)):
        if not seeds or not methods:
            continue
        plan = {
            **shared,
            "methods": [arm(name, oracle) for name in methods],
            "budgets": options.budgets,
            "seeds": seeds,
        }
        path = folder / f"plan-{'full' if methods == ['full'] else 'methods'}{scored}.yaml"
        path.write_text(yaml.safe_dump(plan, sort_keys=False))
        found = validate(path, shard=(0, 1))
        results += found.results
        for name, why in found.errors.items():
            print(f"* {name}: {why}", flush=True)
    known = {"kind": kind, "seed": options.seed, "scorer": options.scorer, "schedule": options.schedule}
    rows = list(map(record, results))
    file = folder / f"results{scored}-{options.schedule[0]}.json"
    before = json.loads(file.read_text())["rows"] if file.exists() else []
    taken = {(row["method"], row["budget"], row["seed"]) for row in rows}
    rows += [row for row in before if (row["method"], row["budget"], row["seed"]) not in taken]
    file.write_text(json.dumps({**known, "rows": rows}, indent=1))
    print(
        f"\n### {kind}, seed {options.seed}, {options.scorer} scorer, equal {options.schedule[0]}\n\n{table(rows)}",
        flush=True,
    )
    return results


def record(one: Result) -> dict[str, Any]:
    """What the tables need of one training."""
    return {
        "method": one.key.method,
        "budget": one.key.budget,
        "seed": one.seed,
        "accuracy": float(np.mean([score for score in one.scores.values() if score is not None])),
        "loss": float(np.mean([loss for loss in one.losses.values() if loss is not None])),
        "steps": one.steps,
        "training": one.training_seconds,
        "selection": one.selection_seconds,
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """One line per method and budget."""
    cells: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for row in rows:
        cells.setdefault((row["budget"], row["method"]), {})[row["seed"]] = row
    full = cells.get(("100%", "full"), {})
    cost = _mean(full, "training")
    lines = []
    for (budget, method), found in sorted(cells.items(), key=_order):
        accuracy = [one["accuracy"] for one in found.values()]
        spread = f" +- {np.std(accuracy, ddof=1):.3f}" if len(accuracy) > 1 else ""
        drawn = cells.get((budget, "random"), {})
        spent = (_mean(found, "training") or 0) + (_mean(found, "selection") or 0)
        lines.append(
            [
                method,
                budget,
                str(len(found)),
                number(_mean(found, "steps"), 0),
                f"{np.mean(accuracy):.3f}{spread}",
                number(_mean(found, "loss"), 2),
                "" if method in ("random", "full") else difference(found, drawn),
                "" if method == "full" else difference(found, full),
                number(spent / cost if cost else None, 2),
            ]
        )
    head = ["method", "budget", "seeds", "steps", "accuracy", "loss", "above random", "above full", "cost ratio"]
    return markdown(head, lines)


def _order(cell: tuple[tuple[str, str], Any]) -> tuple[float, int, float]:
    (budget, method), found = cell
    first = ["full", "random", "oracle"]
    place = first.index(method) if method in first else len(first)
    return -float(budget.rstrip("%")), place, -float(np.mean([one["accuracy"] for one in found.values()]))


def _mean(found: dict[int, dict[str, Any]], key: str) -> float | None:
    values = [one[key] for one in found.values() if one[key] is not None]
    return float(np.mean(values)) if values else None


def difference(ours: dict[int, dict[str, Any]], theirs: dict[int, dict[str, Any]]) -> str:
    """Mean difference of accuracies with a 95 % bootstrap interval; paired where the seeds are the same ones."""
    if not ours or not theirs:
        return ""
    rng = np.random.default_rng(0)
    if set(ours) == set(theirs):
        gaps = np.array([ours[seed]["accuracy"] - theirs[seed]["accuracy"] for seed in ours])
        draws = rng.choice(gaps, (RESAMPLES, len(gaps))).mean(axis=1)
    else:
        own, other = (np.array([one["accuracy"] for one in side.values()]) for side in (ours, theirs))
        gaps = np.array([own.mean() - other.mean()])
        draws = rng.choice(own, (RESAMPLES, len(own))).mean(axis=1) - rng.choice(other, (RESAMPLES, len(other))).mean(
            axis=1
        )
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"{gaps.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def summary(options: argparse.Namespace) -> str:
    """For each pool the best method, and the default's rank and distances; then every pool's table."""
    lines, tables = [], []
    for file in sorted(options.out.resolve().glob("*/results*.json")):
        found = json.loads(file.read_text())
        how = f"{found['kind']} ({found['seed']}, {found['scorer']}, {found['schedule'][0]})"
        tables.append(f"### {how}\n\n{table(found['rows'])}")
        rows = [row for row in found["rows"] if row["budget"] in ("20%", "100%")]
        means = {
            name: float(np.mean([row["accuracy"] for row in rows if row["method"] == name]))
            for name in {row["method"] for row in rows}
        }
        real = {name: mean for name, mean in means.items() if name not in ("full", "oracle") and name not in VARIANTS}
        if options.default not in real:
            continue
        best = max(real, key=real.__getitem__)
        rank = sorted(real, key=real.__getitem__, reverse=True).index(options.default) + 1
        ours = real[options.default]
        shown = [number(means.get(name), 3) for name in ("random", "oracle", "full")]
        lines.append(
            [
                how,
                *shown,
                f"{best} {real[best]:.3f}",
                f"{ours:.3f}",
                f"{rank} of {len(real)}",
                f"{ours - real[best]:+.3f}",
                f"{ours - real['random']:+.3f}" if "random" in real else "",
            ]
        )
    head = ["pool (seed, scorer, equal)", "random", "oracle", "full", "best", options.default]
    page = markdown([*head, "its rank", "to the best", "to random"], lines)
    return "\n\n".join([page, *tables])


def variants(options: argparse.Namespace) -> str:
    """Accuracy at 20 % of the default and of its variants, pool by pool, and the difference paired by seed."""
    found: dict[str, dict[str, dict[int, dict[str, Any]]]] = {}  # pool -> method -> seed -> row
    for file in sorted(options.out.resolve().glob("*/results-epochs.json")):
        told = json.loads(file.read_text())
        for row in told["rows"]:
            if row["budget"] == "20%" and row["method"] in (options.default, *VARIANTS):
                found.setdefault(told["kind"], {}).setdefault(row["method"], {})[row["seed"]] = row
    pools = [kind for kind, methods in found.items() if {"judge-weight-0", options.default} <= set(methods)]
    lines = []
    for name in (options.default, *VARIANTS):
        line = [name]
        for kind in pools:
            ours = [row["accuracy"] for row in found[kind].get(name, {}).values()]
            spread = f" +- {np.std(ours, ddof=1):.3f}" if len(ours) > 1 else ""
            line.append(f"{np.mean(ours):.3f}{spread} ({len(ours)})" if ours else "")
        for kind in pools:
            theirs = found[kind][options.default]
            line.append("" if name == options.default else difference(found[kind].get(name, {}), theirs))
        if any(line[1:]):
            lines.append(line)
    return markdown(["rule", *pools, *(f"above the default: {kind}" for kind in pools)], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pools", nargs="+", choices=[*KINDS, *REAL, "summary", "variants"])
    parser.add_argument("--data", type=Path, help="of easy-VQA: the folder that holds easy_vqa/")
    parser.add_argument("--out", type=Path, default=Path("runs/choices"))
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--tests", type=int, default=800)
    parser.add_argument("--seed", type=int, default=303, help="of pool, test set, split and base model")
    parser.add_argument("--seeds", type=int, default=5, help="of trainings and of choosing")
    parser.add_argument("--full-seeds", type=int, default=3, help="of the full pool's trainings; 0 = none")
    parser.add_argument("--epochs", type=float, default=4, help="of the trainings on digits")
    parser.add_argument("--base-epochs", type=float, default=25, help="of the base model on easy-VQA")
    parser.add_argument("--budgets", nargs="+", default=["20%"])
    parser.add_argument("--schedule", nargs=1, choices=["epochs", "steps"], default=["epochs"])
    parser.add_argument("--steps", type=int, default=40, help="of equal steps")
    parser.add_argument("--scorer", choices=["weak", "trained"], default="weak")
    parser.add_argument("--methods", nargs="*", choices=["oracle", *METHODS, *VARIANTS], default=BASICS)
    parser.add_argument("--default", default="judge-cover", help="of the summary: whose rank")
    parser.add_argument("--find", action="store_true", help="no training: AUROC of signals, and what plants tell")
    options = parser.parse_args()
    if options.find:
        head = ["pool", "spoiled", "told at most", *(f"AUROC {name}" for name in FOUND)]
        print(f"\n### What is found, seed {options.seed}, {options.scorer} scorer\n")
        print(markdown(head, [find_spoiled(kind, options) for kind in options.pools]))
        return
    for kind in options.pools:
        if kind == "summary":
            print(summary(options))
            continue
        if kind == "variants":
            print(variants(options))
            continue
        if kind in REAL and options.data is None:
            parser.error(f"{kind} needs --data, the folder that holds easy_vqa/")
        run_pool(kind, options)


if __name__ == "__main__":
    main()
