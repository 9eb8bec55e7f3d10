"""The logistic regression: known weights, missing values, and no way for a twin to be seen beside its original."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from tests.plants.samples import layout
from vlmsift.plants import combine
from vlmsift.plants.combine import FOLDS, fit

COUNT = 200
ROWS = layout(COUNT, ["wrong_image", "wrong_answer", "duplicate"])
KINDS = ["wrong_image", "wrong_answer"]


def made(seed=0):
    """(N, 3): a telling column, a weaker one of the other sign, and noise."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(len(ROWS.of), 3))
    good = ROWS.originals | ROWS.twins["duplicate"]
    values[:, 0] += 2.0 * good
    values[:, 1] = 5 * (values[:, 1] - 1.0 * good) + 100
    return values


def test_weights_have_the_right_signs_and_sizes():
    weights = fit(["a", "b", "c"], made(), ROWS, KINDS)
    first, second, noise = weights.weight
    assert first > 1 > 0.5 > abs(noise)
    assert -1.5 < second < -0.4
    assert abs(noise) < 0.25
    used = ~ROWS.twins["duplicate"]
    np.testing.assert_allclose(weights.mean, made()[used].mean(0))
    np.testing.assert_allclose(weights.scale, made()[used].std(0))
    assert weights.columns == ("a", "b", "c")


def test_the_final_weights_are_scikit_learns_on_standardised_values():
    values = made()
    weights = fit(["a", "b", "c"], values, ROWS, KINDS)
    used = ~ROWS.twins["duplicate"]
    standard = ((values - weights.mean) / weights.scale)[used]
    # originals weigh as much as all twins together
    share = np.where(ROWS.originals, 1.0, 0.5)[used]
    share *= used.sum() / share.sum()
    model = LogisticRegression(C=weights.strength).fit(standard, ROWS.originals[used], share)
    np.testing.assert_allclose(weights.weight, model.coef_[0], rtol=1e-6)
    assert weights.intercept == pytest.approx(model.intercept_[0], rel=1e-5)


def test_kinds_weigh_alike_whatever_their_number():
    few = dict(ROWS.twins)
    few["wrong_answer"] = few["wrong_answer"] & (ROWS.of < 20)
    rows, target, share = combine._rows(layout(COUNT, list(few), twins=few), KINDS)
    sums = [share[few[kind][rows]].sum() for kind in KINDS]
    assert sums[0] == pytest.approx(sums[1])
    assert share[target == 1].sum() == pytest.approx(sum(sums))
    assert share.sum() == pytest.approx(len(rows))


def test_no_fold_has_an_original_on_one_side_and_its_twin_on_the_other():
    groups = np.repeat(np.arange(23), 4)
    tested = []
    for train, test in combine._folds(groups, 0):
        assert not set(groups[train]) & set(groups[test])
        assert len(train) + len(test) == len(groups)
        tested += test.tolist()
    assert sorted(tested) == list(range(len(groups)))


def test_a_secret_of_each_group_is_worth_nothing_across_groups(monkeypatch):
    """Columns that tell one group each: known by heart they are perfect, and across groups they say nothing."""
    rows = layout(40, ["wrong_image"])
    signs = np.random.default_rng(0).choice([-1, 1], 40)
    values = np.zeros((80, 40))
    values[np.arange(80), rows.of] = signs[rows.of] * np.where(rows.originals, 1, -1)
    names = [str(number) for number in range(40)]
    monkeypatch.setattr(combine, "STRENGTHS", [10.0])
    honest = fit(names, values, rows, ["wrong_image"])
    assert roc_auc_score(rows.originals, honest.scores) == pytest.approx(0.5, abs=0.05)
    in_sample = values @ honest.weight
    assert roc_auc_score(rows.originals, in_sample) == 1.0


def test_cross_validated_scores_are_of_models_that_did_not_see_the_row():
    """Changing one group's values must not change the model that scores it, only its own inputs."""
    values = made()
    before = fit(["a", "b", "c"], values, ROWS, KINDS)
    changed = values.copy()
    changed[ROWS.of == 7] += 1e3
    after = fit(["a", "b", "c"], changed, ROWS, KINDS)
    mine, rest = ROWS.of == 7, ROWS.of != 7
    # the scores of group 7 move by one and the same linear model, so equal shifts give equal moves
    moves = (after.scores - before.scores)[mine]
    np.testing.assert_allclose(moves, moves[0], rtol=1e-6)
    assert np.isfinite(before.scores).all()
    assert not np.allclose(before.scores[rest], after.scores[rest])


def test_cross_validated_auroc_is_about_what_fresh_data_gives():
    weights = fit(["a", "b", "c"], made(0), ROWS, KINDS)
    fresh = ((made(1) - weights.mean) / weights.scale) @ weights.weight
    used = ~ROWS.twins["duplicate"]
    held_out = roc_auc_score(ROWS.originals[used], weights.scores[used])
    assert held_out == pytest.approx(roc_auc_score(ROWS.originals[used], fresh[used]), abs=0.03)


def test_missing_values_count_as_the_mean_and_constant_columns_as_nothing():
    values = made()
    values[::3, 0] = np.nan
    values[:, 2] = 4.0
    weights = fit(["a", "b", "c"], values, ROWS, KINDS)
    used = ~ROWS.twins["duplicate"]
    assert weights.mean[0] == pytest.approx(np.nanmean(values[used, 0]))
    assert weights.scale[2] == 1.0
    assert weights.weight[2] == pytest.approx(0, abs=1e-9)
    assert np.isfinite(weights.scores).all()


def test_the_same_seed_gives_the_same_and_too_few_rows_give_nothing():
    one, other = (fit(["a", "b", "c"], made(), ROWS, KINDS, seed=4) for _ in range(2))
    np.testing.assert_array_equal(one.scores, other.scores)
    small = layout(2 * FOLDS - 1, ["wrong_image"])
    assert fit(["a"], np.zeros((len(small.of), 1)), small, ["wrong_image"]) is None
