"""Ways to choose that were tried against the default, each on three pools, trained by five seeds.

    python benchmarks/rivals.py spoiled-50 redundant mixed --seed 303

quality-cover   judged as by the default, then facility location in which a good sample's being stood for counts more:
                each row weighs its rank by surprise, 0 to 1
two-rounds      the default's choice at half the budget, a training on it, and by that model's signals the other half
committee       the default, with the mean of two scorers' ranks for surprise: the start's, and that trained model's
learned         the default, dropping by the log-odds of a regression on six signals that plants taught
d2              D2 pruning's message passing (arXiv 2310.07931) by the default's signals, nothing judged
judge-d2        the same among what the default's judge leaves

Random draw, oracle and the default are in the same table as in benchmarks/choices.py, whose cells in --out are used
again. A choice is made once, by seed 0, and trained by all seeds. Prints what each costs beside the default's scoring.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import yaml
from choices import make_plan, record, table
from digit_pools import KINDS
from numpy.typing import NDArray
from scipy.stats import rankdata

from vlmsift.choosing.candidates import Candidates, Choice, Selector
from vlmsift.experiment import validate
from vlmsift.methods import METHODS
from vlmsift.models import open_model
from vlmsift.plants.combine import fit
from vlmsift.plants.layout import read_layout, read_values
from vlmsift.plants.planted import Planted
from vlmsift.plants.share import KINDS as TWINS_OF
from vlmsift.plants.share import ORIGINALS, SEED, SIGNALS, TWINS, tell_share
from vlmsift.pools import open_image, open_pool
from vlmsift.runs.run import Run
from vlmsift.scoring.score import score
from vlmsift.selecting import select
from vlmsift.selectors import build_selector
from vlmsift.selectors.facility_location import greedy, neighbour_graph
from vlmsift.specs import EngineSpec, ModelSpec
from vlmsift.train import train
from vlmsift.train.data import EncodedData

RIVALS = ("quality-cover", "two-rounds", "committee", "learned", "d2", "judge-d2")
READ = ("surprise", "delta_attnmask", "hidden_mean")
NEIGHBOURS = 64


def graph_of(candidates: Candidates, neighbours: int) -> Any:
    """(N, N): cosines of directions from the mean with the nearest others, as facility location has them."""
    units = candidates.vector("hidden_mean")  # (N, K)
    units -= units.mean(axis=0, dtype=np.float64).astype(np.float32)
    units /= np.maximum(np.linalg.norm(units, axis=1, keepdims=True), 1e-12)
    return neighbour_graph(units, np.zeros(len(units), np.int64), neighbours)


def told(candidates: Candidates, kept: NDArray[np.int64]) -> Choice:
    """A choice without an account."""
    nothing = pa.repeat(candidates.stratum, len(candidates))
    return Choice(kept, nothing, pa.repeat("not chosen", len(candidates)), {})


@dataclass(frozen=True)
class QualityCover(Selector):
    """sum_i w_i max_{j kept} s_ij, w the share of rows that are more surprising."""

    name: ClassVar[str] = "quality_cover"

    @property
    def columns(self) -> tuple[str, ...]:
        return ("surprise", "hidden_mean")

    def __call__(self, candidates: Candidates, budget: int) -> Choice:
        weights = 1 - rankdata(candidates.number("surprise")) / len(candidates)  # (N,)
        graph = graph_of(candidates, NEIGHBOURS)
        graph.data *= weights[graph.indices]
        return told(candidates, greedy(graph, budget)[0])


@dataclass(frozen=True)
class MessagePassing(Selector):
    """D2: each score takes in its neighbours', then the best is kept and takes its part away from its neighbours.

    Attributes:
        neighbours, gamma: of the graph, and how fast a message fades with the squared distance; the paper tunes both.
    """

    neighbours: int = 10
    gamma: float = 1.0
    name: ClassVar[str] = "d2"

    @property
    def columns(self) -> tuple[str, ...]:
        return ("surprise", "delta_attnmask", "hidden_mean")

    def __call__(self, candidates: Candidates, budget: int) -> Choice:
        graph = graph_of(candidates, self.neighbours).tocsr()
        graph.setdiag(0)
        graph.data[graph.data > 0] = np.exp(-self.gamma * 2 * (1 - graph.data[graph.data > 0]))  # of squared distance
        ranks = [rankdata(part) / len(candidates) for part in map(candidates.number, self.columns[:2])]
        scores = 1 - ranks[0] + 0.5 * ranks[1]  # (N,), the default's criterion without its groups
        scores = scores + graph @ scores
        kept: list[int] = []
        for _ in range(budget):
            best = int(np.argmax(scores))
            kept.append(best)
            near = slice(graph.indptr[best], graph.indptr[best + 1])
            scores[graph.indices[near]] -= graph.data[near] * scores[best]
            scores[best] = -np.inf
        return told(candidates, np.array(kept, np.int64))


def choose(name: str, found: Run, plan: dict[str, Any], folder: Path) -> list[str]:
    """Ids that a rival keeps: 20 %."""
    pool, model = open_pool(plan["pool"]), open_model(ModelSpec(**plan["model"]))
    drop = tell_share(found, pool, model, engine=EngineSpec(workers=0)).share or 0.0
    default: Any = build_selector(str(METHODS["judge-cover"].selector))
    judged: Any = replace(default, first=replace(default.first, drop=min(drop, 0.6)))
    columns = found.table(["id", "answer_key", "source", "status", "images", *READ])
    keep = len(pool) // 5
    if name in ("quality-cover", "judge-d2"):
        chooser = QualityCover() if name == "quality-cover" else MessagePassing()
        return list(select(columns, replace(judged, second=chooser), keep).ids)
    if name == "d2":
        return list(select(columns, MessagePassing(), keep).ids)
    if name == "learned":
        planted: Any = Planted(pool, sample=ORIGINALS, twins=TWINS, plants=TWINS_OF, seed=SEED)
        made = Run.open(found.folder / "plants")
        weights = fit(SIGNALS, inputs_of(read_values(made, SIGNALS)), read_layout(made, planted)[0], TWINS_OF)
        assert weights is not None
        own = inputs_of(read_values(found, SIGNALS))  # (N, P)
        odds = np.nan_to_num((own - weights.mean) / weights.scale) @ weights.weight
        place = columns.schema.get_field_index("surprise")
        columns = columns.set_column(place, "surprise", pa.array(-odds.astype(np.float32)))
        return list(select(columns, replace(judged, first=replace(judged.first, weight=0.0)), keep).ids)
    first = list(select(columns, judged, keep // 2).ids)
    second = look_again(plan, pool, first, folder)
    if name == "committee":
        ranks = [rankdata(side["surprise"].to_numpy()) for side in (columns, second)]
        place = columns.schema.get_field_index("surprise")
        mean = pa.array(((ranks[0] + ranks[1]) / 2).astype(np.float32))
        return list(select(columns.set_column(place, "surprise", mean), judged, keep).ids)
    left = second.filter(pa.array(~np.isin(np.array(second["id"].to_pylist()), first)))
    return first + list(select(left, judged, keep - len(first)).ids)


def inputs_of(values: Any) -> Any:
    """(N, P) in the order of `SIGNALS`, the loss by its logarithm."""
    return np.stack([np.log(np.maximum(values[n], 1e-6)) if n == "answer_loss" else values[n] for n in SIGNALS], 1)


def look_again(plan: dict[str, Any], pool: Any, first: list[str], folder: Path) -> Any:
    """The pool's columns by the model that was trained on the first rows."""
    taught = folder / "first-round"
    if not taught.exists():
        encoder = open_model(ModelSpec(**plan["model"])).encoder(partial(open_image, root=pool.image_root))
        train(EncodedData.read(pool, encoder).subset(first), ModelSpec(**plan["model"]), taught, changes=plan["recipe"])
    spec = ModelSpec(taught, device="cpu", dtype="float32")
    run = score(pool, spec, folder / "second-look", signals=list(READ), engine=EngineSpec(workers=0))
    return run.table(["id", "answer_key", "source", "status", "images", *READ])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pools", nargs="+", choices=KINDS)
    parser.add_argument("--out", type=Path, default=Path("runs/choices"))
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--tests", type=int, default=800)
    parser.add_argument("--seed", type=int, default=303, help="of pool and test set")
    parser.add_argument("--seeds", type=int, default=5, help="of trainings")
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--rivals", nargs="+", choices=RIVALS, default=RIVALS)
    options = parser.parse_args()
    options.scorer = "weak"
    for kind in options.pools:
        folder = options.out.resolve() / f"{kind}-{options.seed}"
        plan = make_plan(kind, folder, options)
        oracle = plan.pop("oracle")
        pool, model = open_pool(plan["pool"]), open_model(ModelSpec(**plan["model"]))
        signals = list(dict.fromkeys([*SIGNALS, *READ]))
        found = score(pool, model, folder / "found-rivals", signals=signals, engine=EngineSpec(workers=0))
        tell_share(found, pool, model, engine=EngineSpec(workers=0))
        arms: list[Any] = ["random", {"name": "oracle", "ids": oracle}, "judge-cover"]
        for name in options.rivals:
            file, started = folder / f"{name}.ids", time.process_time()
            if not file.exists():
                file.write_text("".join(f"{one}\n" for one in choose(name, found, plan, folder)))
                print(f"{kind}, {name}: {time.process_time() - started:.0f} s of choosing", flush=True)
            arms.append({"name": name, "ids": str(file)})
        shared = {**plan, "redraw": True, "out": str(folder / "cells"), "schedule": ["epochs"], "budgets": ["20%"]}
        path = folder / "plan-rivals.yaml"
        path.write_text(yaml.safe_dump({**shared, "methods": arms, "seeds": options.seeds}, sort_keys=False))
        results = validate(path, shard=(0, 1))
        for broken, why in results.errors.items():
            print(f"* {broken}: {why}", flush=True)
        rows = list(map(record, results.results))
        print(f"\n### rivals on {kind}, seed {options.seed}\n\n{table(rows)}", flush=True)


if __name__ == "__main__":
    main()
