"""How well numbers tell originals from twins. In: values per row and what each row is. Out: AUROC with its bootstrap.

Originals are resampled together with their twins, because a twin shares its original's picture, question and luck. Each
resample is a vector of weights, so that one comparison matrix per signal and kind serves them all.
"""

from __future__ import annotations

import numpy as np

from vlmsift.plants.layout import Floats, Layout

RESAMPLES = 400  # draws of the bootstrap
LOW, HIGH = 2.5, 97.5  # ends of the intervals, percent


def weighted_auroc(good: Floats, bad: Floats, good_weights: Floats, bad_weights: Floats) -> Floats:
    """(R,) float64 chances that a good value is above a bad one, ties counting half; NaN where a side has no weight.

    Args:
        good: (G,) values. bad: (K,) values. good_weights: (R, G). bad_weights: (R, K).
    """
    above = (good[:, None] > bad).astype(np.float32) + np.float32(0.5) * (good[:, None] == bad)  # (G, K)
    won = ((good_weights @ above) * bad_weights).sum(1, dtype=np.float64)  # (R, K) to (R,)
    pairs = good_weights.sum(1, dtype=np.float64) * bad_weights.sum(1, dtype=np.float64)  # (R,)
    return np.asarray(np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0))


def aurocs(values: Floats, layout: Layout, weights: Floats) -> dict[str, Floats]:
    """Kind -> (R,) AUROC of one signal whose good end is up; rows where it is undefined are left out.

    Args:
        values: (N,). weights: (R, originals), from `resamples`; row 0 is the figure, the others its bootstrap.
    """
    known, of, figures = np.isfinite(values), layout.of, {}
    for kind, twins in layout.twins.items():
        good, bad = np.flatnonzero(layout.good(kind) & known), np.flatnonzero(twins & known)  # (G,), (K,)
        figures[kind] = weighted_auroc(values[good], values[bad], weights[:, of[good]], weights[:, of[bad]])
    return figures


def interval(replicates: Floats) -> tuple[float, float]:
    """The 2.5 % and 97.5 % points of (R,) bootstrap figures; NaN where there are none."""
    known = replicates[np.isfinite(replicates)]
    if not len(known):
        return np.nan, np.nan
    low, high = np.percentile(known, [LOW, HIGH]).tolist()
    return low, high


def spearman(values: Floats, others: Floats) -> float:
    """Rank correlation over the rows where both are defined; NaN where a side does not vary."""
    from scipy.stats import rankdata

    known = np.isfinite(values) & np.isfinite(others)
    first, second = rankdata(values[known]), rankdata(others[known])  # ties share their mean rank
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])
