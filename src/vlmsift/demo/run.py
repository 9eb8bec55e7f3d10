"""`vlmsift demo`: a pool with a known spoiled part, sifted by the embedded model.

In: a folder, a size, a seed. Out: on disk the pool, the run, the kept rows, a figure and a report; on the terminal what
was done and how well it worked. Every figure printed is computed from this run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlmsift.demo import MODEL_PATH
from vlmsift.demo.figure import Extreme, draw_figure
from vlmsift.demo.pool import make_pool, read_truth
from vlmsift.methods import METHODS
from vlmsift.report import write_report
from vlmsift.runs.run import Run
from vlmsift.scoring.score import score
from vlmsift.selecting import select
from vlmsift.selectors import Top
from vlmsift.specs import ModelSpec
from vlmsift.terminal import progress_bar, say, show_records, show_run

SIGNALS = (
    "delta_attnmask",
    "delta_random",
    "delta_bottom",
    "delta_half=delta_attnmask:depth=0.5",
    "answer_loss",
    "surprise",
    "el2n",
    "image_gain",
    "image_attention",
    "image_entropy",
    "hidden_mean",
    "random",
)
LOWEST = ("answer_loss", "surprise", "el2n", "image_entropy")  # clean samples are expected at their low end
SCALARS = tuple(word.partition("=")[0] for word in SIGNALS if word != "hidden_mean")  # one number per sample
SPOILED = ("wrong_image", "wrong_answer", "blank_image")  # no per-sample signal tells a copy from its original
KEEP = "20%"
RANDOM_SEEDS = 5
EPOCHS = 3.0  # of the last act: short, so that the demo stays a demo
TESTS = 500


def run_demo(out: Path, size: int = 3000, seed: int = 0, lesson: bool = True) -> Path:
    """Make the pool, score it, select, export, train, and print what came out. Returns the folder.

    Args:
        lesson: whether models are trained on the kept rows, on random ones and on the whole pool.

    Raises:
        RunMismatch: `out` holds a demo of another size or seed.
    """
    started = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    pool = out / f"pool-{size}-seed{seed}"
    if not (pool / "pool.json").exists():
        make_pool(pool, size=size, seed=seed)
    truth = {name: row["kind"] for name, row in read_truth(pool).items()}
    made = time.perf_counter()
    kinds = {kind: list(truth.values()).count(kind) for kind in sorted(set(truth.values()))}
    say(f"1. pool: {size:,} samples of handwritten digits in {pool}")
    say("   " + ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in kinds.items()))
    say("2. score: every signal from one forward, plus one masked pass each, by the embedded model")
    with progress_bar() as progress:
        run = score(pool / "pool.json", MODEL_PATH, out / "run", signals=SIGNALS, progress=progress)
    show_run(run, progress.last)
    scored = time.perf_counter()

    table = run.table(["id", "source", *SCALARS]).to_pandas()
    table["kind"] = table["id"].map(truth)
    say(f"3. how well each signal tells clean samples from spoiled ones (AUROC; 0.5 is chance; {size:,} samples)")
    aurocs = _auroc_table(table)
    whole = (table.kind == "clean").mean()
    say(f"4. select {KEEP}: share of clean samples among the kept (of the whole pool: {whole:.2f})")
    shares, chosen = _select_table(run, truth)
    chosen.save("delta-attnmask")
    kept = chosen.export(out / "kept.json")
    selected = time.perf_counter()
    say(f"5. exported {len(chosen.ids):,} rows, equal to the originals, to {kept}")
    extremes = _extremes(pool, table)
    say("   best and worst five by delta_attnmask (nats):")
    show_records([{**one._asdict(), "delta": f"{one.delta:+.2f}"} for one in extremes], left=5)
    figure = draw_figure(out / "demo.png", pool, table, aurocs, shares, extremes)
    say(f"6. figure: {figure}")
    drawn = time.perf_counter()
    if lesson:
        _teach(out, pool / "pool.json", run, seed)
    taught = time.perf_counter()
    select(run, METHODS["judge-cover"].selector, KEEP, seed=seed).save("judge-cover")
    names, model = ("delta-attnmask", "judge-cover"), ModelSpec(MODEL_PATH, device="cpu")
    page = write_report(run, out / "report.html", selections=names, model=model, seed=seed)
    steps = {
        "pool": made - started,
        "score": scored - made,
        "select and export": selected - scored,
        "figure": drawn - selected,
        "training": taught - drawn,
        "report": time.perf_counter() - taught,
    }
    say("   seconds: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in steps.items()))
    say(f"{8 if lesson else 7}. open the report: {page}")
    return out


def _teach(out: Path, pool: Path, run: Run, seed: int) -> None:
    """The last act: what the rules keep of two pools, and what that teaches."""
    if find_spec("accelerate") is None:
        say("7. no model is trained on the parts: that needs pip install 'vlmsift[train]'")
        return
    from vlmsift.demo.lesson import compare_rules

    say(f"7. one rule for two pools: a weak model trained on {KEEP} by each, {EPOCHS:g} epochs; exact answers to new")
    say(
        f"   questions ({TESTS}). One pool is the one above; in the other all is right, each sample in five near copies"
    )
    rows = []
    for found in compare_rules(out, (pool, run), run.pool_rows // 2, seed, KEEP, EPOCHS, TESTS):
        drawn = found.lessons["random"].accuracy
        for name, one in found.lessons.items():
            gain = "" if name in ("untrained", "random") else f"{one.accuracy - drawn:+.3f}"
            record = {"pool": found.name, "trained on": name, "samples": f"{one.samples:,} of {found.rows:,}"}
            rows.append({**record, "exact": f"{one.accuracy:.3f}", "above random": gain})
    show_records(rows, left=2)
    say("   delta-attnmask only judges; judge-cover, what `vlmsift sift` does, drops what looks spoiled, then covers")
    say("   one seed: docs/results.md has five, more pools, and all methods")


def auroc(clean: NDArray[Any], values: NDArray[Any]) -> float:
    """Chance that a clean sample's value is above a spoiled one's; samples without a value are left out."""
    from sklearn.metrics import roc_auc_score

    known = ~np.isnan(values)
    return float(roc_auc_score(clean[known], values[known]))


def _auroc_table(table: Any) -> dict[str, float]:
    found, rows, clean = {}, [], (table.kind == "clean").to_numpy()
    for name in SCALARS:
        sign = -1 if name in LOWEST else 1
        values = sign * table[name].to_numpy(float)
        parts = [table.kind.isin(["clean", *bad]).to_numpy() for bad in (SPOILED, *zip(SPOILED))]  # all, each alone
        figures = [auroc(clean[part], values[part]) for part in parts]
        found[name] = figures[0]
        kinds = ("all", *(kind.replace("_", " ") for kind in SPOILED))
        told = {kind: f"{value:.3f}" for kind, value in zip(kinds, figures, strict=True)}
        rows.append({"signal": name, "clean is": "low" if sign < 0 else "high", **told})
    show_records(rows, left=2)
    return found


def _select_table(run: Run, truth: dict[str, str]) -> tuple[dict[str, list[float]], Any]:
    """Share of clean samples that each way of choosing keeps; and the default method's selection."""
    ways = {
        "delta-attnmask (balanced)": Top(),
        "delta-attnmask-plain": Top(balance="none"),
        "delta_random (control)": Top("delta_random", balance="none"),
        "delta at half depth": Top("delta_half", balance="none"),
        "answer_loss, lowest": Top("answer_loss", "lowest", "none"),
        "surprise, lowest": Top("surprise", "lowest", "none"),
        "el2n, lowest": Top("el2n", "lowest", "none"),
        "image_gain": Top("image_gain", balance="none"),
    }
    picks = {name: [select(run, selector, KEEP)] for name, selector in ways.items()}
    picks["random"] = [select(run, "random", KEEP, seed=seed) for seed in range(RANDOM_SEEDS)]
    shares = {name: [_share(one.ids, truth, "clean") for one in picked] for name, picked in picks.items()}
    rows = []
    for name, values in shares.items():
        spread = f" +- {np.std(values, ddof=1):.3f} ({len(values)} seeds)" if len(values) > 1 else ""
        unspoiled = np.mean([_share(one.ids, truth, "clean", "duplicate") for one in picks[name]])
        share = f"{np.mean(values):.3f}{spread}"
        rows.append({"method": name, "clean among the kept": share, "clean or a copy": f"{unspoiled:.3f}"})
    show_records(rows)
    return shares, next(iter(picks.values()))[0]


def _share(names: Sequence[str], truth: dict[str, str], *kinds: str) -> float:
    """Share of the named samples that are of these kinds."""
    return sum(truth[name] in kinds for name in names) / len(names)


def _extremes(pool: Path, table: Any) -> list[Extreme]:
    """The five samples with the highest and the five with the lowest Delta-AttnMask."""
    records = {row["id"]: row for row in json.loads((pool / "pool.json").read_text(encoding="utf-8"))}
    ordered = table.sort_values(["delta_attnmask", "id"], ascending=[False, True])
    found = []
    for row in (*ordered.head(5).itertuples(), *ordered.tail(5).itertuples()):
        question, answer = (turn["value"] for turn in records[row.id]["conversations"])
        question, kind = question.replace("<image>\n", ""), row.kind.replace("_", " ")
        found.append(Extreme(row.delta_attnmask, kind, question, answer, records[row.id]["image"]))
    return found
