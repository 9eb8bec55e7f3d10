"""Weights of the signal `calibrated`. In: values of a few signals on originals and twins. Out: a logistic regression.

Every figure is cross-validated, and an original stands on the same side as all of its twins. Duplicates are no part of
it: no signal can know them. Every kind weighs as much as every other, and all twins as much as all originals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vlmsift.plants.layout import Floats, Ints, Layout

FOLDS = 5
STRENGTHS = np.logspace(-3, 2, 6)  # inverse regularisations that cross-validation chooses among


@dataclass(frozen=True)
class Weights:
    """A fitted combination of P signals."""

    columns: tuple[str, ...]
    mean: Floats  # (P,) of the standardisation
    scale: Floats  # (P,)
    weight: Floats  # (P,) on standardised values
    intercept: float  # log-odds where all are average
    strength: float  # the inverse regularisation chosen
    scores: Floats  # (N,) log-odds by models that saw neither the row's original nor its twins; NaN without one


def fit(columns: Sequence[str], values: Floats, layout: Layout, kinds: Sequence[str], seed: int = 0) -> Weights | None:
    """Fit P signals to tell originals from twins; None where a fold would lack one of the two.

    Args:
        values: (N, P), NaN where undefined: counted as the mean. kinds: the twins to learn from.
    """
    rows, target, share = _rows(layout, kinds)  # (M,) each
    if len(np.unique(layout.of[rows])) < 2 * FOLDS or not (target == 0).any():
        return None
    inputs, groups = values[rows], layout.of[rows]  # (M, P), (M,)
    scores = np.full(len(values), np.nan)
    for train, test in _folds(groups, seed):
        weights = _fitted(columns, inputs[train], target[train], share[train], groups[train], seed)
        held_out = np.isin(layout.of, groups[test])  # (N,) copies too, though nothing is learnt from them
        scores[held_out] = _standard(values[held_out], weights.mean, weights.scale) @ weights.weight + weights.intercept
    return replace(_fitted(columns, inputs, target, share, groups, seed), scores=scores)


def _rows(layout: Layout, kinds: Sequence[str]) -> tuple[Ints, Ints, Floats]:
    """The rows to learn from, 1 for an original and 0 for a twin, and the weight of each: the kinds count alike."""
    share = np.zeros(len(layout.of))
    share[layout.originals] = 1 / layout.originals.sum()
    for kind in kinds:
        share[layout.twins[kind]] = 1 / layout.twins[kind].sum() / len(kinds)
    rows = np.flatnonzero(share)  # (M,)
    return rows, layout.originals[rows].astype(np.int64), share[rows] * len(rows) / share.sum()


def _fitted(columns: Sequence[str], inputs: Floats, target: Ints, share: Floats, groups: Ints, seed: int) -> Weights:
    """The regression of the strength that cross-validation prefers."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = _mean_and_scale(inputs)
    standard = _standard(inputs, mean, scale)  # (M, P)
    losses = np.zeros(len(STRENGTHS))
    for place, strength in enumerate(STRENGTHS):
        for train, test in _folds(groups, seed + 1):
            model = LogisticRegression(C=strength).fit(standard[train], target[train], share[train])
            signs = 2 * target[test] - 1  # 1 for an original, -1 for a twin
            losses[place] += share[test] @ np.logaddexp(0, -signs * model.decision_function(standard[test]))  # nats
    best = float(STRENGTHS[int(np.argmin(losses))])
    model = LogisticRegression(C=best).fit(standard, target, share)
    return Weights(tuple(columns), mean, scale, model.coef_[0], float(model.intercept_[0]), best, np.empty(0))


def _mean_and_scale(inputs: Floats) -> tuple[Floats, Floats]:
    """(P,) mean and deviation of the defined values; 0 and 1 where there are none, or where they do not vary."""
    known = np.isfinite(inputs)  # (M, P)
    count = np.maximum(known.sum(0), 1)  # (P,)
    mean = np.where(known, inputs, 0).sum(0, dtype=np.float64) / count
    spread = np.sqrt((np.where(known, inputs - mean, 0) ** 2).sum(0, dtype=np.float64) / count)
    return mean, np.where(spread > 1e-12, spread, 1.0)


def _standard(inputs: Floats, mean: Floats, scale: Floats) -> Floats:
    return np.asarray(np.nan_to_num((inputs - mean) / scale, nan=0.0))  # undefined counts as average


def _folds(groups: Ints, seed: int) -> list[tuple[Ints, Ints]]:
    """(train, test) places; a group is never on both sides. The same groups and seed give the same folds."""
    from sklearn.model_selection import PredefinedSplit

    names, place = np.unique(groups, return_inverse=True)  # (groups,), (M,)
    fold = np.empty(len(names), np.int64)
    fold[np.random.default_rng(seed).permutation(len(names))] = np.arange(len(names)) % FOLDS
    return list(PredefinedSplit(fold[place]).split())
