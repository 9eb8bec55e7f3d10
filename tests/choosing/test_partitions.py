"""Choosing in parts: exact, accountable, and nearly as good as choosing from all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.sample_runs import make_table
from tests.selectors.parts import candidates
from vlmsift.choosing.partitions import in_parts
from vlmsift.selecting import select
from vlmsift.selectors import FacilityLocation, KCenter, Top

RNG = np.random.default_rng(0)
POINTS = (RNG.standard_normal((6, 4))[RNG.integers(0, 6, 90)] + 0.1 * RNG.standard_normal((90, 4))).astype(np.float32)


@pytest.mark.parametrize("budget", [1, 8, 10, 11, 60, 90])
@pytest.mark.parametrize(
    "selector", [FacilityLocation("v", neighbours=30, at_once=20), KCenter("v", at_once=20)], ids=repr
)
def test_the_budget_is_kept_and_each_other_row_has_its_reason(selector: Any, budget: int) -> None:
    chosen = select(make_table({"v": POINTS}), selector, budget)
    assert len(set(chosen.ids)) == len(chosen.ids) == budget
    assert len(chosen.dropped) == 90 - budget
    merged = 2 * budget <= 20
    assert (chosen.made_by["strata"][0]["parts"], chosen.made_by["strata"][0]["shortlisted"]) == (
        5,
        2 * budget * merged,
    )
    told = {reason.split(": ")[0] for reason in chosen.dropped.values()}
    assert told <= ({"shortlisted", "in its part"} if merged else {"in its part"})
    assert (len(told) == 2) == merged
    assert chosen.decisions["group"].unique().to_pylist() == ["images"]


def test_parts_keep_their_best_and_the_merge_the_best_of_them() -> None:
    rows = candidates({"loss": [0, 1, 2, 3, 7, 6, 5, 4, 8, 9, 10, 11]})
    choice = in_parts(rows, 2, 4, Top("loss", balance="none"))  # 4 on the shortlist: 2 + 1 + 1 of three parts
    assert choice.kept.tolist() == [11, 4]
    reasons = choice.reasons.to_pylist()
    assert reasons[3] == "shortlisted: rank 3 of 4 in group 'images', the group keeps 2"
    ranks = {0: 4, 1: 3, 5: 2, 6: 3, 7: 4, 8: 4, 9: 3, 10: 2}
    told = {place: f"in its part: rank {rank} of 4 in group 'images', the group keeps" for place, rank in ranks.items()}
    assert {place: reasons[place][:-2] for place in ranks} == told
    apart = in_parts(rows, 6, 4, Top("loss", balance="none"))
    assert apart.kept.tolist() == [3, 4, 11, 2, 5, 10]
    assert apart.reasons.to_pylist()[9] == "in its part: rank 3 of 4 in group 'images', the group keeps 2"


def test_it_covers_nearly_as_well_as_the_whole() -> None:
    rows = candidates({"v": POINTS})
    units = POINTS - POINTS.mean(axis=0)
    units /= np.linalg.norm(units, axis=1, keepdims=True)

    def covered(places: Any) -> float:
        return float(np.maximum(units @ units[places].T, 0).max(axis=1).mean())

    whole = covered(FacilityLocation("v", neighbours=89)(rows, 6).kept)
    parts = covered(FacilityLocation("v", neighbours=89, at_once=30)(rows, 6).kept)
    assert whole > parts > whole - 0.02
    assert covered(np.arange(6)) < whole - 0.04
