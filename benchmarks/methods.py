"""The methods of the table compared: what their subsets teach, what they agree on, cost and find.

    python benchmarks/methods.py validate --pool spoiled      # every method at 20 %, five trainings each
    python benchmarks/methods.py validate --pool redundant    # the same, on a clean pool of near copies
    python benchmarks/methods.py pairs --pool spoiled         # rank correlation, overlap, cost, what each drops
    python benchmarks/methods.py pairs --pool redundant
    python benchmarks/methods.py nlvr --data FOLDER           # near-duplicate pairs of NLVR; FOLDER holds nlvr/

`spoiled` is the half-spoiled digits pool of benchmarks/digits.py, `redundant` as many samples without a fault: a fifth
are originals, each with four near copies (vlmsift.demo.redundant). The embedded model's weak start scores and is what
all trainings start from. XMAS, S2L and BYE share one proxy: the start, fine-tuned on the pool by the comparison's own
recipe, with seven snapshots. Prints the tables of docs/results.md. Whatever was finished before is not done again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml
from digits import base_plan, make_data, run_plan
from method_cost import cost_table
from method_runs import COMPARED, Scoring
from method_tables import auroc_table, overlap_table, plants_table, redundancy_table, spearman_table
from near_pairs import compare_pairs

from vlmsift.demo import START_PATH
from vlmsift.demo.held_out import write_held_out
from vlmsift.demo.pool import read_truth
from vlmsift.demo.redundant import group, make_redundant, one_per_group
from vlmsift.demo.teach import RECIPE
from vlmsift.methods import METHODS
from vlmsift.signals.attention_influence import AttentionInfluence

ROWS = 2000
COPIES = 5
"""Of an original in the redundant pool, itself counted: a fifth of the pool can hold each original once."""
KEEP = "20%"
PROBES = AttentionInfluence().probes
ORACLES = {"spoiled": "oracle-clean", "redundant": "oracle-distinct"}


def make_pool(kind: str, options: argparse.Namespace) -> tuple[Path, dict[str, Path]]:
    """The folder of all that is made from a pool; the pool, the ids that the oracle draws from, and the test set."""
    rows = options.rows or ROWS
    folder = options.out.resolve() / (f"{kind}-{rows}-{options.seed}" if options.seed else f"{kind}-{rows}")
    if kind == "spoiled":
        return folder, make_data(folder, rows, options.seed, options.tests)
    pool, best = folder / "pool" / "pool.json", folder / "distinct.txt"
    if not pool.exists():
        make_redundant(pool.parent, rows, COPIES, options.seed)
    best.write_text("".join(f"{name}\n" for name in one_per_group(pool, options.seed)))
    return folder, {"pool": pool, "clean": best, "test": write_held_out(folder / "test", options.tests)}


def _line(name: str, probes: int) -> Any:
    """A method in a plan: its name, unless its heads are to be found by another number of probes."""
    method = METHODS[name]
    words = [f"{word}:probes={probes}" if word == "attention_influence" else word for word in method.signal_words]
    if probes == PROBES or tuple(words) == method.signal_words:
        return name
    return {"name": name, "signals": words, "selector": method.selector_word}


def validate_all(kind: str, options: argparse.Namespace) -> None:
    """Write the plan with every method, and carry it out."""
    folder, data = make_pool(kind, options)
    oracle = {"name": ORACLES[kind], "ids": str(data["clean"])}
    table = [_line(name, options.probes) for name in options.methods if name in METHODS and name != "random"]
    methods: list[Any] = ["full", "random", oracle, *table]
    plan = base_plan(data, options.seeds, options.epochs)
    path = folder / "plan.yaml"
    out = str(folder / "validate")
    plan |= {"methods": methods, "budgets": [KEEP], "redraw": True, "out": out}
    path.write_text(yaml.safe_dump(plan, sort_keys=False))
    print(f"\n### Every method at {KEEP}, the {kind} pool\n\n    vlmsift validate {path}\n", flush=True)
    run_plan(path, options.jobs)


def compare(kind: str, options: argparse.Namespace) -> None:
    """Print what the methods agree on, what they cost, and what they find."""
    folder, data = make_pool(kind, options)
    recipe = {**RECIPE, "epochs": options.epochs}
    scoring = Scoring(data["pool"], START_PATH, folder, recipe, options.probes)
    chosen = scoring.choose_all(options.methods, KEEP, max(2, options.seeds))
    merits = scoring.merits(list(chosen))
    unranked = ", ".join(name for name in chosen if name not in merits)
    print(f"\n### Spearman correlation of what methods rank by, the {kind} pool\n\n{spearman_table(merits)}")
    print(f"\nThe higher the sooner kept. Without one number to rank by, and left out: {unranked}.")
    print(f"\n### Overlap of the kept {KEEP}, the {kind} pool; chance is 0.20\n\n{overlap_table(chosen)}", flush=True)
    if kind == "spoiled":
        truth = read_truth(data["pool"].parent)
        print(f"\n### What is kept of each kind; chance is 0.20\n\n{plants_table(chosen, merits, truth)}")
        print(f"\n### AUROC of clean against each kind\n\n{auroc_table(merits, truth)}")
    else:
        group_of = {row["id"]: group(row["id"]) for row in json.loads(data["pool"].read_text())}
        print(f"\n### Originals among the kept {KEEP}\n\n{redundancy_table(chosen, group_of)}")
    if options.rounds:
        print(f"\n### Cost, the {kind} pool\n", flush=True)
        print(cost_table(scoring, list(chosen), min(options.timed, options.rows or ROWS), options.rounds, KEEP))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["validate", "pairs", "nlvr"])
    parser.add_argument("--pool", choices=list(ORACLES), default="spoiled")
    parser.add_argument("--data", type=Path, help="of nlvr: the folder that holds nlvr/")
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--rows", type=int, help=f"samples in the pool: {ROWS:,}, of nlvr all, unless given")
    parser.add_argument("--tests", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0, help="of the pool")
    parser.add_argument("--seeds", type=int, default=5, help="of trainings, and of choosing")
    parser.add_argument("--epochs", type=float, default=4, help="of the trainings, and of the proxy")
    parser.add_argument("--base-epochs", type=float, default=8, help="of nlvr: of the base model, from scratch")
    parser.add_argument("--probes", type=int, default=PROBES, help="that AttentionInfluence's heads are found by")
    parser.add_argument("--methods", nargs="+", choices=list(COMPARED), default=list(COMPARED), help="only these")
    parser.add_argument("--timed", type=int, default=500, help="samples that the cost is measured on")
    parser.add_argument("--rounds", type=int, default=3, help="of measuring the cost, in medians; 0 = none")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    if options.which == "nlvr":
        if options.data is None:
            parser.error("nlvr needs --data, the folder that holds nlvr/")
        compare_pairs(options)
    else:
        (validate_all if options.which == "validate" else compare)(options.pool, options)


if __name__ == "__main__":
    main()
