"""BYE's selector: the gate in closed form, planted samples found, a clean pool left alone, budgets kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sample_runs import make_run, make_table
from tests.selectors.parts import candidates
from vlmsift.errors import UsageError
from vlmsift.selecting import select
from vlmsift.selectors import Mixture, mixture
from vlmsift.selectors.mixture import bimodality, two_gaussians

BAD = 12
FEWEST = 10
SMALL = Mixture(fewest=FEWEST)
"""For pools of fewer rows than a gate is trusted with."""


def profiles(count: int = 120, apart: float = 4.0) -> np.ndarray:
    """(count, 3) entropies: layer 1 is low for the first `BAD` rows, the others are one bell."""
    values = np.random.default_rng(0).normal(5, 0.3, (count, 3))
    values[:BAD, 1] -= apart
    return values


def test_bimodality_by_hand() -> None:
    assert bimodality(np.array([1.0, 4.0]), np.array([0.3, 0.4])) == pytest.approx(6)  # 3 / 0.5
    assert bimodality(np.array([1.0, 1.0]), np.array([0.3, 0.4])) == 0


def test_two_gaussians_of_two_far_heaps_are_the_heaps() -> None:
    low, high = np.array([0.9, 1.0, 1.1, 1.2]), np.array([7.0, 7.5, 8.0])
    means, spreads, lower = two_gaussians(np.concatenate([high, low]), 0)
    np.testing.assert_allclose(means, [low.mean(), high.mean()], atol=1e-4)
    np.testing.assert_allclose(spreads, [low.std(), high.std()], rtol=1e-3)
    assert lower.tolist() == [False] * 3 + [True] * 4


def test_the_likeliest_of_several_starts_is_kept() -> None:
    """A tenth lies four deviations lower. From one start, the seed says whether the gate sees it."""
    passed = []
    for pool in range(100, 110):
        rng = np.random.default_rng(pool)
        values = np.concatenate([rng.normal(5, 0.5, 180), rng.normal(3, 0.5, 20)])
        passed.append({bimodality(*two_gaussians(values, seed)[:2]) >= 2 for seed in range(6)})
    assert all(len(verdicts) == 1 for verdicts in passed)
    assert {True} in passed


def test_the_planted_ones_go_and_the_clean_stay() -> None:
    table = make_table({"entropy_profile": profiles()})
    chosen = select(table, Mixture(), 120 - BAD)
    assert set(chosen.dropped) == {f"s{row}" for row in range(BAD)}
    (record,) = chosen.made_by["strata"]
    assert (record["sensitive_layers"], record["suspects"], record["refilled"]) == ([1], BAD, 0)
    assert len(record["bimodality"]) == 3
    assert record["bimodality"][1] > 2 > max(record["bimodality"][0], record["bimodality"][2])
    reason = chosen.dropped["s0"]
    assert reason.startswith("entropy_profile over layers 1: ")
    assert " is of the lower of two Gaussians, around 0.97" in reason
    assert " and 4.99" in reason


def test_survivors_are_those_who_are_not_suspect() -> None:
    assert Mixture().survivors(candidates({"entropy_profile": profiles()})) == 120 - BAD
    assert Mixture().survivors(candidates({"entropy_profile": profiles(apart=0)})) == 120


def test_a_larger_budget_takes_the_least_suspect_back() -> None:
    values = profiles()
    values[:BAD, 1] = np.linspace(1, 1.5, BAD)
    chosen = select(make_table({"entropy_profile": values}), Mixture(), 120 - BAD + 2)
    assert chosen.ids[-2:] == (f"s{BAD - 1}", f"s{BAD - 2}")
    assert chosen.made_by["strata"][0]["refilled"] == 2


def test_a_smaller_budget_draws_among_the_survivors() -> None:
    table = make_table({"entropy_profile": profiles()})
    drawn = {key for seed in range(12) for key in select(table, Mixture(), 40, seed=seed).ids}
    assert drawn.isdisjoint({f"s{row}" for row in range(BAD)})
    assert len(drawn) > 90
    reasons = select(table, Mixture(), 40).dropped.values()
    assert sum("of 108 in group 'images', the group keeps 40" in reason for reason in reasons) == 68


def test_nobody_is_suspect_where_no_layer_is_bimodal() -> None:
    chosen = select(make_table({"entropy_profile": profiles(apart=0)}), Mixture(), 60)
    (record,) = chosen.made_by["strata"]
    assert (record["sensitive_layers"], record["suspects"], record["refilled"]) == ([], 0, 0)
    assert all("in group 'images', the group keeps 60" in reason for reason in chosen.dropped.values())


@pytest.mark.parametrize(
    ("means", "spreads", "bsi", "released"),
    [
        ([0, 3], [1, 1], True, False),  # 2.12 and 1.5
        ([0, 4.1], [1, 1], True, True),
        ([0, 2.7], [1, 1], False, False),  # 1.91
        ([0, 2], [0.6, 0.8], True, False),  # 2 exactly reaches it; 1.43
        ([0, 4], [1, 1], True, False),  # 2 exactly is not above it
    ],
)
def test_the_released_gate_is_stricter(means: list[float], spreads: list[float], bsi: bool, released: bool) -> None:
    pair = np.array(means, float), np.array(spreads, float)
    assert Mixture()._splits(*pair) == bsi
    assert Mixture(gate="released")._splits(*pair) == released
    assert Mixture(threshold=9.0)._splits(*pair) is False


def test_the_gate_decides() -> None:
    values = profiles(400, 1.0)  # 3.3 deviations apart
    values[:200, 1] = values[200:400, 1] - 1.0
    rows = candidates({"entropy_profile": values})
    assert Mixture().suspicion(rows).suspect[:200].mean() > 0.8
    assert not Mixture(gate="released").suspicion(rows).suspect.any()


def test_the_score_is_the_mean_over_the_sensitive_layers() -> None:
    values = profiles().astype(np.float32)
    values[:BAD, 2] -= 4
    found = Mixture().suspicion(candidates({"entropy_profile": values}))
    assert found.details["sensitive_layers"] == [1, 2]
    np.testing.assert_allclose(found.score, values[:, 1:].mean(axis=1), rtol=1e-6)


@pytest.mark.parametrize("count", [1, 2, FEWEST - 1])
def test_a_few_rows_are_not_judged(count: int) -> None:
    values = np.where(np.arange(count)[:, None] % 2, 1.0, 9.0) * np.ones(3)
    chosen = select(make_table({"entropy_profile": values}), SMALL, 1)
    assert chosen.made_by["strata"][0]["too_few_rows"] is True
    assert chosen.made_by["strata"][0]["suspects"] == 0


NAN = float("nan")


def test_layers_that_some_rows_lack_are_fitted_on_the_others(tmp_path: Path) -> None:
    values = profiles()
    values[:BAD, 2] -= 4  # bimodal like layer 1
    values[:3, 1] = values[20:40, 1] = NAN  # these have layer 2 alone
    values[3:6, 1:] = values[40:50, 1:] = NAN  # these have no sensitive layer
    values = np.hstack([values, np.full((120, 1), NAN)])
    values[: FEWEST - 1, 3] = np.where(np.arange(FEWEST - 1) % 2, 1, 9)  # in two, but of too few rows
    values[60] = NAN
    run = make_run(tmp_path, {"entropy_profile": values}, part_size=50)
    np.testing.assert_array_equal(run.vector("entropy_profile"), values.astype(np.float32))
    chosen = select(run, SMALL, "clean")
    assert set(chosen.dropped) == {"s60", *(f"s{row}" for row in range(BAD) if row not in (3, 4, 5))}
    assert chosen.dropped["s60"] == "entropy_profile is undefined"
    (record,) = chosen.made_by["strata"]
    assert record["sensitive_layers"] == [1, 2]
    assert record["bimodality"][3] is None
    assert (record["suspects"], record["rows"], record["keeps"], record["refilled"]) == (BAD - 3, 119, 110, 0)
    bare = select(run.table(), SMALL, "clean")
    assert (bare.ids, dict(bare.dropped)) == (chosen.ids, dict(chosen.dropped))


def test_the_score_is_the_mean_of_the_sensitive_layers_that_a_row_has() -> None:
    values = profiles().astype(np.float32)
    values[:BAD, 2] -= 4
    values[0, 1], values[1, 2], values[2, 1:] = NAN, NAN, NAN
    found = Mixture().suspicion(candidates({"entropy_profile": values}))
    assert found.details["sensitive_layers"] == [1, 2]
    np.testing.assert_allclose(found.score[:4], [values[0, 2], values[1, 1], NAN, values[3, 1:].mean()], rtol=1e-6)
    assert found.suspect[:4].tolist() == [True, True, False, True]


def test_a_layer_needs_as_many_numbers_as_a_pool() -> None:
    values = np.full((30, 2), 5.0) + np.random.default_rng(0).normal(0, 0.1, (30, 2))
    values[:, 1] = NAN
    for there, layers in ((FEWEST - 1, []), (FEWEST, [1])):
        values[:there, 1] = np.where(np.arange(there) % 2, 1.0, 9.0) + np.arange(there) / 100
        assert SMALL.suspicion(candidates({"entropy_profile": values})).details["sensitive_layers"] == layers


def test_a_small_clean_pool_stays_whole() -> None:
    """In 40 rows of one bell, two Gaussians lie far enough apart for the gate, so by default it is not asked."""
    rows = np.random.default_rng(22).normal(5, 0.3, (40, 1))
    assert SMALL.survivors(candidates({"entropy_profile": rows})) < 40
    chosen = select(make_table({"entropy_profile": rows}), Mixture(), "clean")
    assert len(chosen.ids) == 40
    assert chosen.made_by["strata"][0]["too_few_rows"] is True


@pytest.mark.parametrize(("count", "layers"), [(99, []), (100, [1])])
def test_a_gate_is_asked_from_a_hundred_rows_on(count: int, layers: list[int]) -> None:
    found = Mixture().suspicion(candidates({"entropy_profile": profiles(count)}))
    assert found.details["sensitive_layers"] == layers


def test_clean_fits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(mixture, "two_gaussians", lambda *how: calls.append(how) or two_gaussians(*how))
    chosen = select(make_table({"entropy_profile": profiles()}), Mixture(), "clean")
    assert set(chosen.dropped) == {f"s{row}" for row in range(BAD)}
    assert len(calls) == 3 + 1  # layers, and the score


def test_text_only_rows_are_not_judged() -> None:
    values = np.concatenate([profiles(), np.full((10, 3), np.nan)])
    chosen = select(make_table({"entropy_profile": values}, images=[1] * 120 + [0] * 10), Mixture(), 65)
    assert sum(int(key[1:]) >= 120 for key in chosen.ids) == 5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"gate": "kl"}, r"mixture: gate='kl' cannot be meant.*bsi, released"),
        ({"threshold": 0.0}, "threshold=0.0"),
        ({"threshold": float("nan")}, "nan"),
        ({"fewest": 1}, "fewest=1 cannot be meant.*at least 2"),
    ],
)
def test_what_cannot_be_meant(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Mixture(**wrong)
