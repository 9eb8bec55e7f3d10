"""Every method of the table on one pool. In: a pool, a model, a folder. Out: scored runs, and what a method keeps.

proxy/        one fine-tune on the pool with snapshots, shared by the methods that ask for a training of their own
heads-*.json  retrieval heads of the model
runs/METHOD/  its signals
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from vlmsift.errors import VlmsiftError
from vlmsift.files import write_atomically
from vlmsift.methods import METHODS, Method
from vlmsift.models import open_model
from vlmsift.runs.run import Run
from vlmsift.scoring.score import score
from vlmsift.selecting import select
from vlmsift.selectors import Top
from vlmsift.signals.attention_influence import AttentionInfluence
from vlmsift.specs import EngineSpec, ModelSpec, PoolSpec
from vlmsift.train import Trained, train
from vlmsift.types import Signal

SNAPSHOTS = 7
COMPARED: dict[str, Method] = {name: method for name, method in METHODS.items() if name != "full"} | {
    "xmas-released": replace(METHODS["xmas"], signals=("trajectory=image_spectrum:attention=released",)),
    "coincide-projected": replace(METHODS["coincide"], signals=("concept_states:dimensions=1024",)),
}
"""Methods that drop something, and two settings that rank otherwise."""
CPU: dict[str, Any] = {"device": "cpu", "dtype": "float32"}
Floats = NDArray[np.float64]
Chosen = dict[str, list[frozenset[str]]]
"""Method -> what it keeps, for each seed of choosing."""


@dataclass(frozen=True)
class Scoring:
    """How a pool is scored for each method, once.

    Attributes:
        model: scores, but for the methods with a training: these get the snapshots of the proxy, or its end.
        recipe: of the proxy, which starts from `model`; changes, as `vlmsift.train` takes them.
        probes: by which the retrieval heads of `model` are found.
    """

    pool: Path
    model: Path
    folder: Path
    recipe: Mapping[str, Any]
    probes: int

    @cached_property
    def proxy(self) -> Trained:
        """The shared fine-tune; a finished one is found again."""
        model = ModelSpec(self.model, **CPU)
        return train(self.pool, model, self.folder / "proxy", changes=self.recipe, snapshots=SNAPSHOTS)

    def models(self, method: Method) -> Any:
        """What scores for a method, as `score` takes it: a model, or the checkpoints of a training."""
        if method.training is None:
            return self.model
        return list(self.proxy.snapshots) if method.training.snapshots > 1 else self.proxy.folder

    def signals(self, name: str) -> dict[str, Signal]:
        """What a method measures, retrieval heads found."""
        return {
            column: replace(signal, **{key: self.heads[key] for key in ("probes", "heads")})
            if isinstance(signal, AttentionInfluence)
            else signal
            for column, signal in COMPARED[name].build_signals().items()
        }

    @cached_property
    def heads(self) -> dict[str, Any]:
        """The model's retrieval `heads`, the number of `probes` that found them, and `seconds`; found once."""
        path = self.folder / f"heads-{self.probes}.json"
        if not path.exists():
            model, started = open_model(ModelSpec(self.model, **CPU)), time.perf_counter()
            signal = AttentionInfluence(probes=self.probes).bind(model, [])
            found = {**signal.parameters(), "seconds": time.perf_counter() - started}
            write_atomically(path, lambda temporary: temporary.write_text(json.dumps(found)))
        read: dict[str, Any] = json.loads(path.read_text())
        return read

    def run(self, name: str) -> Run:
        """A method's signals of the pool; a finished run is found again."""
        # a method without signals draws: any run tells it which samples there are
        signals = self.signals(name) or ["answer_tokens"]
        return score(
            PoolSpec(str(self.pool)),
            ModelSpec(self.models(COMPARED[name]), **CPU),
            self.folder / "runs" / name,
            signals=signals,
            engine=EngineSpec(workers=0),
        )

    def choose_all(self, names: Sequence[str], keep: str, seeds: int) -> Chosen:
        """What each of the methods keeps, by each of the seeds; says which methods cannot choose, and why."""
        chosen: Chosen = {}
        for name in names:
            try:
                run, selector = self.run(name), COMPARED[name].build_selector()
                ids = [select(run, selector, keep, seed=seed).ids for seed in range(seeds)]
            except VlmsiftError as error:
                print(f"* {name} is left out: {error}", flush=True)
            else:
                chosen[name] = [frozenset(one) for one in ids]
        return chosen

    def merits(self, names: list[str]) -> dict[str, dict[str, float]]:
        """Method -> sample -> the number it ranks by, the higher the sooner kept; only methods that rank by one.

        NaN where it is undefined. That a method balances over groups is not in it.
        """
        found = {}
        for name in names:
            selector = COMPARED[name].build_selector()
            if isinstance(selector, Top):
                table = self.run(name).table(["id", selector.by])
                values = _turned(table[selector.by].to_numpy().astype(np.float64), selector)
                found[name] = dict(zip(table["id"].to_pylist(), values.tolist(), strict=True))
        return found


def _turned(values: Floats, selector: Top) -> Floats:
    """(N,) so that the higher is the sooner kept."""
    if selector.pick == "lowest":
        return -values
    if selector.pick == "middle":
        ranks = np.asarray(rankdata(values, nan_policy="omit"), np.float64)
        return -np.abs(ranks - np.nanmedian(ranks))
    # those above a ceiling come after all others, the nearest first
    ceiling = np.inf if selector.ceiling is None else selector.ceiling
    return np.where(values > ceiling, np.nanmin(values) - (values - ceiling), values)
