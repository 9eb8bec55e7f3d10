"""AUROC and its bootstrap against scikit-learn and slow twins; rank correlation against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from tests.plants.samples import layout
from vlmsift.calibrate.figures import aurocs, interval, spearman, weighted_auroc
from vlmsift.plants.layout import resamples

RNG = np.random.default_rng(0)


def slow(good, bad, good_weights, bad_weights):
    """Chance, pair by pair."""
    won = total = 0.0
    for g, u in zip(good, good_weights, strict=True):
        for b, v in zip(bad, bad_weights, strict=True):
            won += u * v * ((g > b) + 0.5 * (g == b))
            total += u * v
    return won / total


@pytest.mark.parametrize("rounded", [False, True])
def test_auroc_is_scikit_learns(rounded):
    good, bad = RNG.normal(0.5, 1, 70), RNG.normal(0, 1, 40)
    if rounded:  # many ties
        good, bad = good.round(), bad.round()
    found = weighted_auroc(good, bad, np.ones((1, 70), np.float32), np.ones((1, 40), np.float32))
    labels = [1] * 70 + [0] * 40
    assert found == pytest.approx(roc_auc_score(labels, np.concatenate([good, bad])), abs=1e-6)


def test_weights_are_repetitions():
    good, bad = RNG.normal(size=9).round(1), RNG.normal(size=7).round(1)
    good_weights, bad_weights = RNG.integers(0, 3, (5, 9)), RNG.integers(0, 3, (5, 7))
    good_weights[:, 0], bad_weights[:, 0] = 1, 1
    found = weighted_auroc(good, bad, good_weights.astype(np.float32), bad_weights.astype(np.float32))
    expected = [slow(good, bad, u, v) for u, v in zip(good_weights, bad_weights, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_empty_side_is_undefined():
    assert np.isnan(weighted_auroc(np.ones(2), np.ones(0), np.ones((1, 2)), np.ones((1, 0)))).all()
    assert np.isnan(weighted_auroc(np.ones(2), np.ones(1), np.ones((1, 2)), np.zeros((1, 1)))).all()


@pytest.mark.parametrize(("sign", "value"), [(1, 1.0), (-1, 0.0), (0, 0.5)])
def test_a_perfect_a_reversed_and_a_constant_signal(sign, value):
    rows = layout(30, ["wrong_image", "duplicate"])
    values = sign * np.where(rows.originals, 2.0, 1.0)
    for figures in aurocs(values, rows, resamples(30, 20, 0)).values():
        np.testing.assert_array_equal(figures, np.full(21, value))


def test_originals_are_drawn_together_with_their_twins():
    rows = layout(12, ["wrong_image"])
    values = RNG.normal(size=24)
    values[12:15] = np.nan  # the first three have no twin, so places and originals differ
    weights = resamples(12, 10, 3)
    assert (weights[0] == 1).all()
    assert (weights.sum(1) == 12).all()
    assert weights[1:].max() > 1
    found = aurocs(values, rows, weights)["wrong_image"]
    for figure, drawn in zip(found, weights.astype(int), strict=True):
        chosen = np.repeat(np.arange(12), drawn)
        twins = chosen[chosen >= 3]
        pairs = np.concatenate([values[chosen], values[12 + twins]])
        assert figure == pytest.approx(roc_auc_score([1] * 12 + [0] * len(twins), pairs), abs=1e-6)


def test_undefined_rows_are_left_out():
    rows, values = layout(20, ["wrong_image"]), RNG.normal(size=40)
    values[[3, 25, 30]] = np.nan
    known = np.isfinite(values)
    found = aurocs(values, rows, resamples(20, 0, 0))["wrong_image"]
    assert found == pytest.approx(roc_auc_score(rows.originals[known], values[known]), abs=1e-6)


def test_twins_by_image_are_held_against_originals_with_images():
    pictured = np.tile(np.arange(20) < 10, 2)
    rows = layout(20, ["wrong_image"], pictured=pictured, by_image=frozenset(["wrong_image"]))
    values = RNG.normal(size=40)
    kept = np.r_[0:10, 20:40]
    found = aurocs(values, rows, resamples(20, 0, 0))["wrong_image"]
    assert found == pytest.approx(roc_auc_score(rows.originals[kept], values[kept]), abs=1e-6)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rows = layout(60, ["wrong_image"])
    truth, held = 0.6386, 0  # of normals half a deviation apart: Phi(0.5 / sqrt 2) = 0.638
    for seed in range(60):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=120) + np.where(rows.originals, 0.5, 0)
        low, high = interval(aurocs(values, rows, resamples(60, 100, seed))["wrong_image"][1:])
        held += low <= truth <= high
    assert 50 <= held < 60


def test_the_same_seed_draws_the_same():
    np.testing.assert_array_equal(resamples(9, 5, 1), resamples(9, 5, 1))
    assert (resamples(9, 5, 1) != resamples(9, 5, 2)).any()


def test_an_interval_without_figures_is_undefined():
    assert np.isnan(interval(np.array([np.nan, np.nan]))).all()
    assert interval(np.array([1.0, np.nan])) == (1.0, 1.0)


def test_rank_correlation_is_scipys():
    one, other = RNG.normal(size=50).round(1), RNG.normal(size=50).round(1)
    assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic)
    one[:5] = np.nan
    assert spearman(one, other) == pytest.approx(spearmanr(one[5:], other[5:]).statistic)
    assert np.isnan(spearman(np.ones(50), other))
    assert np.isnan(spearman(np.array([1.0, np.nan]), np.array([1.0, 2.0])))
