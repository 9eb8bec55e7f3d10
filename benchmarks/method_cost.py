"""What a method costs: forwards by count, and seconds, each method scored alone. Finished rounds are kept in a file."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from method_runs import COMPARED, CPU, Scoring
from method_tables import markdown

from vlmsift.files import write_atomically
from vlmsift.models import open_model
from vlmsift.scoring.score import score
from vlmsift.selecting import select
from vlmsift.signals import forwards
from vlmsift.signals.attention_influence import AttentionInfluence
from vlmsift.specs import EngineSpec, ModelSpec, PoolSpec

Seconds = dict[str, list[float]]


def cost_table(scoring: Scoring, names: Sequence[str], rows: int, rounds: int, keep: str) -> str:
    """Text forwards per sample, seconds of scoring the first `rows` samples, and of choosing from the whole pool.

    The methods take turns, round after round; medians. What is done once before stands apart.
    """
    path = scoring.folder / f"seconds-{rows}.json"
    seconds: Seconds = json.loads(path.read_text()) if path.exists() else {}
    part = _first(scoring, rows)
    if any(len(seconds.get(name, ())) < rounds for name in names):
        _score(scoring, names[0], part)  # imports and the like, not counted
    for number in range(rounds):
        for name in names:
            if len(seconds.setdefault(name, [])) <= number:
                seconds[name].append(_score(scoring, name, part))
                write_atomically(path, lambda temporary: temporary.write_text(json.dumps(seconds)))
    depth = open_model(ModelSpec(scoring.model, **CPU)).depth
    head = ["method", f"forwards, L = {depth}", f"scoring {rows:,} s", "choosing s", "once before s"]
    table = markdown(head, [_row(scoring, name, depth, seconds, rounds, keep) for name in names])
    return (
        f"{table}\n\n{torch.get_num_threads()} threads. Scoring: the pool's first {rows:,} samples, models opened and "
        f"samples encoded anew. Choosing: {keep} of the whole pool. Once before: the shared fine-tune on the whole "
        f"pool ({scoring.proxy.steps} steps), or the search for heads by {scoring.probes} probes."
    )


def _before(scoring: Scoring, name: str) -> str:
    """Seconds of what a method does once: train on the pool, or look for the model's heads."""
    if COMPARED[name].training is not None:
        return f"{scoring.proxy.seconds:.1f}"
    searches = any(isinstance(signal, AttentionInfluence) for signal in scoring.signals(name).values())
    return f"{scoring.heads['seconds']:.1f}" if searches else ""


def _row(scoring: Scoring, name: str, depth: int, seconds: Seconds, rounds: int, keep: str) -> list[str]:
    """A method's line; empty where there is nothing to be done."""
    method, signals = COMPARED[name], scoring.signals(name).values()
    models = scoring.models(method)
    counted = forwards(signals, depth) * (len(models) if isinstance(models, list) else 1)
    run, choosing = scoring.run(name), []
    for seed in range(rounds):
        started = time.perf_counter()
        select(run, method.selector, keep, seed=seed)
        choosing.append(time.perf_counter() - started)
    scored = f"{statistics.median(seconds[name][:rounds]):.1f}" if signals else ""
    return [
        name,
        f"{counted:.2f}",
        scored,
        f"{statistics.median(choosing):.2f}",
        _before(scoring, name),
    ]


def _score(scoring: Scoring, name: str, part: Path) -> float:
    """Seconds of scoring a part of the pool, models opened and samples encoded anew, in this process."""
    signals, models = scoring.signals(name), scoring.models(COMPARED[name])
    if not signals:
        return 0.0
    out = scoring.folder / "timed" / name
    started = time.perf_counter()
    score(
        PoolSpec(part, images=str(scoring.pool.parent)),
        ModelSpec(models, **CPU),
        out,
        signals=signals,
        overwrite=True,
        engine=EngineSpec(workers=0),
    )
    return time.perf_counter() - started


def _first(scoring: Scoring, rows: int) -> Path:
    """The pool's first samples, as a pool."""
    path = scoring.folder / f"first-{rows}.json"
    path.write_text(json.dumps(json.loads(scoring.pool.read_text())[:rows]))
    return path
