"""How much of a pool looks spoiled. In: a pool and an open model. Out: a share with an interval, kept in the run.

About a thousand rows are scored, whatever the pool's size: originals drawn from the pool, and known-bad twins of them.
A regression on a few signals learns to tell both apart. Below a threshold lie so many of the twins and so many of the
pool; if spoiled rows look like twins, their share is at most the ratio of both, whatever the threshold: the one that
bounds best is taken. The bound is loose where good samples look bad: hard ones, or a task that the model does not know.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from vlmsift.errors import RunMismatch, UsageError
from vlmsift.plants.combine import fit
from vlmsift.plants.layout import Floats, Ints, Layout, read_layout, read_values, resamples
from vlmsift.plants.planted import SMALLEST, Planted
from vlmsift.runs.run import Run
from vlmsift.runs.spoiled import PLANTS, Spoiled, read_spoiled, write_spoiled
from vlmsift.scoring.score import score
from vlmsift.specs import EngineSpec

if TYPE_CHECKING:
    from vlmsift.pools import Pool
    from vlmsift.scoring.score import Progress

ORIGINALS, TWINS = 400, 200  # rows drawn from the pool, and twins of each kind
KINDS = ("wrong_image", "wrong_answer", "blank_image")
SIGNALS = ("answer_loss", "delta_attnmask", "el2n", "image_attention", "image_entropy", "answer_tokens")
LOGGED = 1e-6  # the loss enters by its logarithm, nothing below this
SEED = 77  # of draw and twins; a pool that was spoiled by a seed of its own must not be spoiled by the same draw again
RESAMPLES = 200  # of the bootstrap over originals, each with its twins
ENDS = (0.025, 0.975)
LEAST = 10  # percent of the twins that a threshold must find
DOUBT = 20  # one draw in so many may be off by more than `_luck`


def tell_share(
    run: Run,
    pool: Pool,
    model: Any,
    *,
    engine: EngineSpec | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Spoiled:
    """The share of `pool` that looks spoiled to `model`, both those of `run`; kept there, and read from there again.

    Where no twin can be made (a pool of text alone has no other image; one answer has no wrong one), or the pool has
    fewer than 20 usable samples, `share` is None and `left_out` says why. Costs `signals.forwards` of delta_attnmask
    for about 1,000 rows. Source: ours; the bound is that of mixture proportion estimation (Blanchard et al. 2010).
    """
    if (known := read_spoiled(run.place)) is not None:
        return known
    folder = run.home.inside(PLANTS).place
    started = time.perf_counter()
    told = _tell(pool, model, folder, engine, progress)
    told = replace(told, seconds=time.perf_counter() - started)
    write_spoiled(run.place, told)
    return told


def _tell(pool: Pool, model: Any, folder: str, engine: EngineSpec | None, progress: Any) -> Spoiled:
    try:
        planted: Any = Planted(pool, sample=ORIGINALS, twins=TWINS, plants=KINDS, seed=SEED)
    except UsageError as error:
        return _untold(error)
    engine = (engine or EngineSpec()).alone()
    measured = partial(score, planted, model, folder, signals=list(SIGNALS), engine=engine, progress=progress)
    try:
        made = measured()
    except RunMismatch:  # left by a run that was overwritten since
        made = measured(overwrite=True)
    try:
        layout, left_out = read_layout(made, planted)
    except UsageError as error:
        return _untold(error)
    return estimate(read_values(made, SIGNALS), layout, left_out)


def _untold(error: UsageError) -> Spoiled:
    return Spoiled(None, left_out=[str(error).rstrip(".") + "."])


def estimate(values: Mapping[str, Floats], layout: Layout, left_out: Sequence[str] = ()) -> Spoiled:
    """What the rows of a planted pool tell.

    Args:
        values: signal -> (N,), those of `SIGNALS` that are there. layout: twins of other kinds are left out.
    """
    layout = replace(layout, twins={kind: rows for kind, rows in layout.twins.items() if kind in KINDS})
    counts = {kind: int(rows.sum()) for kind, rows in layout.twins.items()}
    names = [name for name in SIGNALS if name in values]
    inputs = np.stack([_input(name, values[name]) for name in names], 1)  # (N, P)
    originals, found = int(layout.originals.sum()), sum(counts.values())
    weights = fit(names, inputs, layout, list(layout.twins)) if found >= SMALLEST else None
    if weights is None:
        told = f"{found} twins of {originals} samples are too few."
        return Spoiled(None, originals=originals, twins=counts, left_out=[*left_out, told])
    share, low, high = bound(weights.scores, layout)
    return Spoiled(share, low, high, originals, counts, list(left_out))


def _input(name: str, values: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(values, LOGGED)) if name == "answer_loss" else values)


def bound(scores: Floats, layout: Layout, seed: int = 0) -> tuple[float, float, float]:
    """The bound on the spoiled share, and an interval (low, high) about it, each 0 to 1.

    High is the upper end of the bound's bootstrap. Low asks more of the good samples, that their scores fall as far
    below the middle of the most as above: it is the lower end of what is left over below (`excess`), less what luck
    alone would leave.

    Args:
        scores: (N,) the higher the more like an original, by models that saw neither the row nor its twins.
    """
    twins = np.asarray(np.logical_or.reduce(list(layout.twins.values())))  # (N,)
    own, bad = scores[layout.originals], scores[twins]
    of_own, of_bad = layout.of[layout.originals], layout.of[twins]
    # (originals,) each, whole numbers; the first counts every one once
    draws = resamples(int(layout.of.max()) + 1, RESAMPLES, seed).astype(np.int64)
    share, *bounds = [_least_ratio(own, bad, drawn[of_own], drawn[of_bad]) for drawn in draws]
    rest = [excess(np.repeat(own, drawn[of_own])) for drawn in draws[1:]]
    low = float(np.quantile(rest, ENDS[0])) - _luck(len(own))  # the largest of many differences is partly luck
    return share, max(0.0, min(low, share)), max(float(np.quantile(bounds, ENDS[1])), share)


def _luck(count: int) -> float:
    """By how much a share of `count` drawn rows may be off at any threshold (Dvoretzky-Kiefer-Wolfowitz)."""
    return float(np.sqrt(np.log(DOUBT) / 2 / count))


def _least_ratio(own: Floats, bad: Floats, own_weights: Ints, bad_weights: Ints) -> float:
    """Least ratio of the pool's (n,) to the twins' (m,) share at or below a threshold, told at the safest of them."""
    luck = _luck(len(own)) + _luck(len(bad))
    thresholds = np.quantile(bad, np.arange(LEAST, 101) / 100)  # (K,)
    below = [_share_below(*side, thresholds) for side in ((own, own_weights), (bad, bad_weights))]  # (K,) each
    found = np.maximum(below[1], 1e-12)
    best = int(np.argmin((below[0] + luck) / found))
    return float(min(1.0, below[0][best] / found[best]))


def _share_below(values: Floats, weights: Ints, thresholds: Floats) -> Floats:
    order = np.argsort(values)
    sums = np.concatenate([[0.0], np.cumsum(weights[order])])
    return np.asarray(sums[np.searchsorted(values[order], thresholds, side="right")] / max(sums[-1], 1e-12))


def excess(values: Floats) -> float:
    """How much more of `values` (n,) lies far below the middle of the closest half than as far above it; 0 to 1."""
    ordered, half = np.sort(values), len(values) // 2
    if half < 1:
        return 0.0
    first = int(np.argmin(ordered[half:] - ordered[: len(ordered) - half]))  # the shortest stretch with half of them
    middle = float(np.median(ordered[first : first + half]))
    ends = ordered[ordered < middle]
    if not len(ends):
        return 0.0
    below = np.searchsorted(ordered, ends, side="right")
    above = len(ordered) - np.searchsorted(ordered, 2 * middle - ends, side="left")
    return float(max(0, np.max(below - above))) / len(ordered)
