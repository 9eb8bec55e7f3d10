"""Ranking by one signal: each pick and each balance against a case done by hand, and what cannot be meant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.sample_runs import make_table
from tests.selectors.parts import candidates
from vlmsift.errors import UsageError
from vlmsift.selecting import select
from vlmsift.selectors import Top

VALUES = [3.0, 9.0, 1.0, 7.0, 5.0, 8.0]


def kept(top: Top, budget: int, **fixed: Any) -> list[str]:
    rows = candidates({"loss": VALUES, "states": np.repeat(np.eye(2), 3, axis=0)}, **fixed)
    return rows.ids(top(rows, budget).kept).to_pylist()


@pytest.mark.parametrize(
    ("pick", "budget", "ids"),
    [
        ("highest", 3, ["s1", "s5", "s3"]),
        ("lowest", 3, ["s2", "s0", "s4"]),
        ("middle", 2, ["s3", "s4"]),  # 5 and 7, as near to the middle as each other, in the order given
        ("middle", 4, ["s3", "s4", "s0", "s5"]),
        ("highest", 0, []),
        ("lowest", 6, ["s2", "s0", "s4", "s3", "s5", "s1"]),
    ],
)
def test_picks(pick: str, budget: int, ids: list[str]) -> None:
    assert kept(Top("loss", pick, "none"), budget) == ids


def test_the_middle_of_an_odd_number_is_the_median() -> None:
    rows = candidates({"loss": [5, 1, 100, 2, 3]})
    assert Top("loss", "middle", "none")(rows, 3).kept.tolist() == [4, 0, 3]


def test_each_source_keeps_its_share() -> None:
    source = ["a", "b", "b", "b", "b", "a"]  # a: 3, 8; b: 9, 1, 7, 5
    assert kept(Top("loss", "highest", "source"), 3, source=source) == ["s1", "s5", "s3"]
    assert kept(Top("loss", "lowest", "source"), 3, source=source) == ["s2", "s0", "s4"]
    assert kept(Top("loss", "highest", "none"), 3, source=source) == ["s1", "s5", "s3"]
    assert kept(Top("loss", "lowest", "source"), 3, source=["a", "b", "b", "a", "b", "b"]) == ["s2", "s0", "s4"]


def test_each_answer_and_each_cluster_keeps_its_share() -> None:
    answers = ["yes", "no", "yes", "no", "yes", "no"]  # yes: 3, 1, 5; no: 9, 7, 8
    assert kept(Top("loss", "highest", "answer", min_group=3), 2, answer_key=answers) == ["s1", "s4"]
    assert kept(Top("loss", "highest", "none"), 2, answer_key=answers) == ["s1", "s5"]
    states = Top("loss", "highest", "clusters", vector="states", clusters=2)  # s0 s1 s2 | s3 s4 s5
    assert kept(states, 4) == ["s1", "s5", "s3", "s0"]
    assert set(kept(states, 2)) == {"s1", "s5"}


def test_the_middle_is_each_group_s_own() -> None:
    source = ["a", "a", "a", "b", "b", "b"]  # a: 3, 9, 1; b: 7, 5, 8
    assert kept(Top("loss", "middle", "source"), 2, source=source) == ["s0", "s3"]


def test_the_middles_of_groups_compare_as_shares_of_their_groups() -> None:
    rows = candidates({"loss": range(12)}, source=["a"] * 3 + ["b"] * 9)
    places = Top("loss", "middle", "source")(rows, 8).kept.tolist()
    assert places[:2] == [1, 7]  # the medians
    assert places[2:6] == [6, 8, 5, 9]  # a ninth, then two ninths of b from its median
    assert places[6:] == [0, 4]  # a third of each


@pytest.mark.parametrize(
    ("budget", "ids"),
    [(1, ["s3"]), (4, ["s3", "s4", "s0", "s2"]), (5, ["s3", "s4", "s0", "s2", "s5"])],
)
def test_what_is_above_a_ceiling_comes_last(budget: int, ids: list[str]) -> None:
    chosen = select(make_table({"loss": VALUES}), Top("loss", balance="none", ceiling=7), budget)
    assert list(chosen.ids) == ids  # the ceiling belongs to what is below it
    (record,) = chosen.made_by["strata"]
    assert (record["above_ceiling"], record["kept_above_ceiling"]) == (2, max(0, budget - 4))
    assert chosen.dropped["s1"] == f"loss = 9 is above 7: rank 6 of 6 in group 'images', the group keeps {budget}"
    if budget == 1:
        assert chosen.dropped["s4"] == "rank 2 of 6 in group 'images', the group keeps 1"


def test_a_ceiling_loses_no_order_and_no_tie() -> None:
    near = np.nextafter(np.float32(1), np.float32([0, 2]))  # the nearest numbers to 1
    values = [1e-38, near[1], 1, 2e-38, 3e38, near[0], 2e38, 1]
    table, top = make_table({"loss": values}), Top("loss", balance="none", ceiling=1)
    chosen = select(table, top, 8)
    assert {chosen.ids[0], chosen.ids[1]} == {"s2", "s7"}
    assert chosen.ids[2:] == ("s5", "s3", "s0", "s1", "s6", "s4")
    assert {select(table, top, 1, seed=seed).ids for seed in range(9)} == {("s2",), ("s7",)}


def test_a_group_with_nothing_below_the_ceiling_keeps_its_share() -> None:
    source = ["a", "b", "a", "a", "a", "b"]  # b: 9, 8
    assert kept(Top("loss", balance="source", ceiling=7.5), 3, source=source) == ["s3", "s4", "s5"]


@pytest.mark.parametrize(
    ("low", "high", "inside"),
    [
        (3, 7, {"s0", "s3", "s4"}),  # ends belong to the band
        (None, "20%", {"s0", "s2"}),  # the quantile is 3
        ("60%", None, {"s1", "s3", "s5"}),  # the quantile is 7
        ("0%", "100%", {"s0", "s1", "s2", "s3", "s4", "s5"}),
        ("3", "7.0", {"s0", "s3", "s4"}),
    ],
)
def test_a_band_draws_from_its_inside(low: Any, high: Any, inside: set[str]) -> None:
    table = make_table({"loss": VALUES})
    band = Top("loss", "band", "none", low=low, high=high)
    assert set(select(table, band, len(inside)).ids) == inside
    outside = select(table, band, 1).dropped
    assert sum("is outside the band" in reason for reason in outside.values()) == 6 - len(inside)
    draws = {select(table, band, 1, seed=seed).ids for seed in range(40)}
    assert draws == {(key,) for key in inside}


def test_a_band_s_end_means_the_stored_number() -> None:
    table = make_table({"loss": [0.3, 0.7, 0.1]})  # float32(0.3) is above 0.3, float32(0.7) below 0.7
    assert set(select(table, Top("loss", "band", "none", low=0.3, high=0.7), 2).ids) == {"s0", "s1"}
    reasons = select(table, Top("loss", "band", "none", low=0.3, high=0.7), 2).dropped
    assert dict(reasons) == {"s2": "loss = 0.1 is outside the band 0.3 to 0.7"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pick": "best"}, r"top: pick='best' cannot be meant; give one of highest, lowest, middle, band"),
        ({"pick": "band"}, "give at least one with pick='band'"),
        ({"low": 0.5}, "low=0.5 and high=None with pick='highest'"),
        ({"pick": "band", "low": "much"}, "low='much' is no end"),
        ({"pick": "band", "high": "120%"}, "high='120%' is no end"),
        ({"pick": "band", "high": float("nan")}, "top: high=nan cannot be meant; give a number or text or none"),
        ({"pick": "band", "low": 8, "high": "10%"}, r"band is empty: low=8.0 is 8, above high='10%', 2"),
        ({"pick": "lowest", "ceiling": 1.0}, "ceiling=1.0 with pick='lowest' cannot be meant"),
        ({"ceiling": float("nan")}, "top: ceiling=nan cannot be meant; give a number or none"),
        ({"by": "lost"}, r"no signal 'lost'.*loss"),
        ({"by": "source"}, "no signal 'source'"),
        ({"by": "states"}, "signal 'states' is a vector"),
        ({"balance": "clusters", "vector": "spectra"}, r"lacks the vector signal 'spectra'.*has: states"),
    ],
)
def test_what_cannot_be_meant(wrong: dict[str, Any], message: str) -> None:
    table = make_table({"loss": VALUES, "states": np.eye(6)})
    with pytest.raises(UsageError, match=message):
        select(table, Top(**{"by": "loss", **wrong}), 2)
