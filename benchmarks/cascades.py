"""What a cheaper score costs in learning: small models in a large one's place, before it, or told what it would say.

    python benchmarks/choices.py spoiled-50 redundant mixed --methods random oracle judge-cover   # rows to compare with
    python benchmarks/cascades.py spoiled-50 redundant mixed                                      # trains and prints
    python benchmarks/cascades.py spoiled-50 redundant mixed --show                               # prints what is there

Pools of benchmarks/digit_pools.py. The target is the embedded model (1.3 M parameters), the proxies are those of
benchmarks/proxies; 20 % is chosen by judge-cover from each one's numbers, and the embedded model's weak start is
trained on it as in choices.py, whose rows of random, oracle and judge-cover (the start scores itself) stand beside.
Seeds come one after another for all arms, so a table of fewer seeds is a fair one. What was finished before is not done
again.

Costs are in FLOPs, as rows x forwards x parameters, against the target scoring every row; a training step is three
forwards. Planted twins are a thousand rows whatever the pool's size, and are left out. Seconds of scoring are of CPU
time, those of training are told by choices.py (its `random` and `full`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from choices import make_plan
from digits import number
from method_tables import markdown
from scipy.stats import spearmanr

from vlmsift.demo import MODEL_PATH
from vlmsift.experiment.bench import open_bench
from vlmsift.experiment.cells import Bench, Cell, Subset, run_cells
from vlmsift.experiment.plan import Augmentation
from vlmsift.experiment.plan import make_plan as as_plan
from vlmsift.experiment.prepare import prepare
from vlmsift.files import read_json, write_json
from vlmsift.methods import METHODS
from vlmsift.methods.pair import Share
from vlmsift.models import open_model
from vlmsift.plants.share import tell_share
from vlmsift.pools import open_pool
from vlmsift.proxy import Told, cost, predict
from vlmsift.runs.run import Run
from vlmsift.runs.spoiled import read_spoiled, write_spoiled
from vlmsift.scoring.score import score
from vlmsift.selecting import select
from vlmsift.specs import EngineSpec, ModelSpec

PROXIES = Path(__file__).parent / "proxies"
MODELS = {"target": MODEL_PATH, **{name: PROXIES / name for name in ("tiny", "small", "weak")}}
METHOD = METHODS["judge-cover"]
NUMBERS, VECTORS = ("surprise", "delta_attnmask"), ("hidden_mean",)
FREE = ("answer_tokens", "entropy", "el2n", "image_attention", "image_entropy")  # what a proxy measures besides
HALF = (  # the half of each source that the proxy finds least surprising
    "id IN (SELECT id FROM (SELECT id, percent_rank() OVER (PARTITION BY source ORDER BY surprise) AS place FROM run) "
    "WHERE place < 0.5)"
)
ENGINE = EngineSpec(workers=0)
BUDGET = 0.2
EPOCH, EPOCHS = 3.0, 4  # forwards that an epoch of training takes per sample; epochs of the trainings here
COMPARED = ("random", "oracle", "judge-cover")
FULL = "full"


@dataclass
class Arm:
    """A line of the table: what it chooses from, by which word, and what scoring took."""

    run: Run
    selector: str = str(METHOD.selector)
    ratio: float = 1.0  # of FLOPs to the target's on all rows
    seconds: float = 0.0  # of CPU time
    told: dict[str, Told] = field(default_factory=dict)


def timed(folder: Path, work: Callable[[], Run]) -> tuple[Run, float]:
    """What `work` makes in `folder`, and the CPU seconds that it took when it was done."""
    clock = folder.with_suffix(".seconds.json")
    started = time.process_time()
    made = work()
    if not clock.exists():
        write_json(clock, {"seconds": time.process_time() - started})
    return made, float(read_json(clock)["seconds"])


def make_arms(data: Path, folder: Path) -> dict[str, Arm]:
    """Every arm's run; resumes."""
    pool, arms = open_pool(data), {}
    scored: dict[str, Run] = {}
    for name, path in MODELS.items():
        if not (path / "config.json").exists():
            print(f"* no {path} yet: its arms are left out", flush=True)
            continue
        model, place = open_model(ModelSpec(path, device="cpu", dtype="float32")), folder / name
        words = [*METHOD.signal_words, *(() if name == "target" else FREE)]
        scored[name], seconds = timed(place, partial(score, pool, model, place, signals=words, engine=ENGINE))
        tell_share(scored[name], pool, model, engine=ENGINE)
        arms[name] = Arm(scored[name], seconds=seconds)
        arms[name].ratio = price(scored[name]) / price(scored["target"])
    print(f"* {folder}: all rows are scored", flush=True)
    target = open_model(ModelSpec(MODEL_PATH, device="cpu", dtype="float32"))
    measure = partial(score, pool, target, signals=list(NUMBERS), engine=ENGINE)
    for name, part in (("tiny", 5), ("tiny", 10), ("weak", 10)):
        if name not in scored:
            continue
        share, place = Share(Decimal(part) / 100, NUMBERS), folder / f"{name}-{part}"
        asked = folder / f"{name}-{part}-share"
        few, seconds = timed(asked, partial(measure, out=asked, where=share.where, of=scored[name]))
        made, more = timed(place, partial(predict, scored[name], few, place, NUMBERS, VECTORS))
        spoiled = read_spoiled(scored[name].folder)
        assert spoiled is not None
        write_spoiled(made.folder, spoiled)
        arms[f"{name} + {part} %"] = Arm(made, ratio=cost(scored[name], few)["ratio"])
        arms[f"{name} + {part} %"].seconds = arms[name].seconds + seconds + more
        signals = made.settings["identity"]["signals"]
        arms[f"{name} + {part} %"].told = {one: Told(**signals[one]["predicted"]) for one in NUMBERS}
    if "tiny" in scored:
        place, words = folder / "cascade", list(METHOD.signal_words)
        half, seconds = timed(place, partial(measure, out=place, signals=words, where=HALF, of=scored["tiny"]))
        spoiled = read_spoiled(scored["tiny"].folder)
        assert spoiled is not None
        left = max(0.0, 2 * (spoiled.share or 0.0) - 1)  # of what was told of the pool, the proxy has dropped a half
        arms["cascade 50 %"] = Arm(half, f"judge:drop={left:.3f} then facility_location")
        arms["cascade 50 %"].ratio = cost(scored["tiny"], half)["ratio"]
        arms["cascade 50 %"].seconds = arms["tiny"].seconds + seconds
    return arms


def price(run: Run) -> float:
    """Forwards x parameters of a row."""
    info = run.settings["info"]
    return float(info["forwards"] * info["parameters"])


def open_pool_bench(kind: str, folder: Path, options: argparse.Namespace) -> tuple[Bench, set[str]]:
    """The trainings' bench, as that of choices.py, and the ids of what is wrong in the pool."""
    made = make_plan(kind, folder, options)
    made.pop("oracle")
    plan = as_plan({**made, "out": str(folder / "cascades"), "methods": ["random"], "budgets": ["20%"], "seeds": 1})
    wrong = set((folder / "pool" / "wrong.txt").read_text().split())
    return open_bench(prepare(plan)), wrong


def chooser(arms: dict[str, Arm], rows: tuple[str, ...]) -> Callable[[Cell], Subset]:
    """Cell -> its samples, in the pool's order."""
    known: dict[tuple[str, int], Subset] = {}

    def choose(cell: Cell) -> Subset:
        key = (cell.method, cell.seed)
        if key not in known:
            kept = set(kept_by(arms[cell.method.replace("_", " ").replace("pct", "%")], cell.seed))
            known[key] = Subset(tuple(name for name in rows if name in kept))
        return known[key]

    return choose


def kept_by(arm: Arm, seed: int) -> tuple[str, ...]:
    return tuple(select(arm.run, arm.selector, BUDGET, seed=seed).ids)


def cell_of(name: str, rows: int, seed: int) -> Cell:
    plain = name.replace(" ", "_").replace("%", "pct")
    return Cell(plain, "20%", int(BUDGET * rows), "epochs", Augmentation("none"), seed)


@dataclass
class Ground:
    """A pool with all that is trained on it."""

    kind: str
    folder: Path
    bench: Bench
    arms: dict[str, Arm]
    wrong: set[str]

    def cells(self, seeds: Sequence[int], names: Sequence[str] | None = None) -> dict[tuple[str, int], Cell]:
        """(arm, seed) -> its training."""
        rows = len(self.bench.data.pool)
        return {(name, seed): cell_of(name, rows, seed) for seed in seeds for name in names or self.arms}

    def show(self, seeds: Sequence[int]) -> None:
        """Print the table of what is trained, and what is not."""
        cells = self.cells(seeds)
        found = {key: record for key, cell in cells.items() if (record := self.bench.finished(cell)) is not None}
        print(f"\n### {self.kind}\n\n{table(self.arms, found, self.wrong, compared(self.folder))}")
        if lacking := [f"{name}, seed {seed}" for name, seed in cells if (name, seed) not in found]:
            print(f"\nNot trained: {'; '.join(lacking)}.")
        for name, arm in self.arms.items():
            for column, told in arm.told.items():
                print(f"* {name}: {told.sentence(column)}")
        print(flush=True)


def open_ground(kind: str, options: argparse.Namespace) -> Ground:
    """Score what is not scored."""
    folder = options.out.resolve() / f"{kind}-{options.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    bench, wrong = open_pool_bench(kind, folder, options)
    arms = make_arms(Path(str(bench.data.pool.path)), folder / "cascades")
    bench = replace(bench, choose=chooser(arms, tuple(bench.data.pool.ids)))
    return Ground(kind, folder, bench, arms, wrong)


def compared(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of choices.py, by method; none where it was not run."""
    file = folder / "results-epochs.json"
    rows = read_json(file)["rows"] if file.exists() else []
    wanted = {**dict.fromkeys(COMPARED, "20%"), FULL: "100%"}
    return {
        name: [row for row in rows if (row["method"], row["budget"]) == (name, budget)]
        for name, budget in wanted.items()
    }


def table(arms: dict[str, Arm], found: dict[Any, Any], wrong: set[str], others: dict[str, list[Any]]) -> str:
    """A line per arm: accuracy, how it agrees with the target, what it keeps, what it costs."""
    lines = []
    for name, rows in others.items():
        shown = f"{name} (the start)" if name == "judge-cover" else name
        lines.append([shown, spread([row["accuracy"] for row in rows]), *[""] * 10])
    full, kept = arms["target"].run, set(kept_by(arms["target"], 0))
    taught, whole = (np.mean([row["training"] for row in others[name]] or [np.nan]) for name in ("random", FULL))
    for name, arm in arms.items():
        mine = [accuracy(record) for (method, _), record in found.items() if method == name]
        ours = kept_by(arm, 0)
        agreement = [agree(arm.run, full, column) for column in NUMBERS]
        selection = arm.ratio * full.settings["info"]["forwards"] / EPOCH  # of an epoch on all rows
        seconds = arm.seconds / arms["target"].seconds
        lines.append(
            [
                name,
                spread(mine),
                *(number(value, 2) for value in agreement),
                " / ".join(told.by for told in arm.told.values()),
                f"{len(kept & set(ours)) / len(ours):.2f}",
                f"{1 - len(wrong & set(ours)) / len(ours):.3f}",
                f"{arm.ratio:.3f}",
                f"{seconds:.2f}",
                f"{selection + BUDGET:.3f}",
                f"{selection / EPOCHS + BUDGET:.3f}",
                number(float((arm.seconds + taught) / whole), 2),
            ]
        )
    head = ["arm", "accuracy", "agreement surprise", "Delta", "told by", "same rows", "right rows"]
    head += ["score FLOPs", "score s", "total FLOPs, 1 epoch", "4 epochs", "total s"]
    return markdown(head, lines)


def accuracy(record: dict[str, Any]) -> float:
    return float(np.mean([task["accuracy"] for task in record["tasks"].values()]))


def spread(values: list[float]) -> str:
    if not values:
        return ""
    deviation = f" +- {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{deviation} ({len(values)})"


def agree(run: Run, full: Run, column: str) -> float | None:
    """Spearman's, over the rows that the target did not measure for this arm; None where it measured all."""
    names = [column for column in ("measured",) if column in run.schema.names]
    mine, theirs = run.table([column, "status", *names]), full.table([column])
    values, wanted = (one[column].to_numpy().astype(np.float64) for one in (mine, theirs))
    rows = np.isfinite(values) & np.isfinite(wanted)
    if names:
        rows &= mine["measured"].to_numpy() == 0
    if run is full or np.array_equal(values[rows], wanted[rows]) or "asked" in run.settings["identity"]:
        return None
    return float(spearmanr(values[rows], wanted[rows]).statistic)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "pools", nargs="+", choices=["spoiled-10", "spoiled-30", "spoiled-50", "redundant", "mixed", "clean"]
    )
    parser.add_argument("--out", type=Path, default=Path("runs/choices"), help="as of choices.py")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--tests", type=int, default=800)
    parser.add_argument("--seed", type=int, default=303, help="of pool and test set")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="of trainings and of choosing")
    parser.add_argument("--arms", nargs="+", help="to train; default: all")
    parser.add_argument("--show", action="store_true", help="train nothing")
    options = parser.parse_args()
    options.scorer, options.epochs = "weak", EPOCHS
    grounds = [open_ground(kind, options) for kind in options.pools]
    for seed in [] if options.show else options.seeds:
        for ground in grounds:
            run_cells(ground.bench, ground.cells([seed], options.arms).values())
            ground.show(options.seeds)
    for ground in grounds:
        ground.show(options.seeds)


if __name__ == "__main__":
    main()
