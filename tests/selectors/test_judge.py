"""Judge by hand: the criterion, the share to drop and where it comes from, the guard; slowly written once more."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sample_runs import make_run, make_table
from vlmsift.errors import UsageError
from vlmsift.runs.spoiled import Spoiled, write_spoiled
from vlmsift.selecting import select
from vlmsift.selectors import FacilityLocation, Judge, Random, Then, Top, build_selector, selector_word

PLAIN = {"by": "loss", "also": "delta", "balance": "answer", "min_group": 1}


def test_the_criterion_is_a_rank_over_all_and_half_a_rank_within_the_group() -> None:
    """Ranks are (place + 1/2) / n: losses 1..4 give 7/8, 5/8, 3/8, 1/8; in pairs deltas give 3/4 and 1/4."""
    columns = {"loss": [1, 2, 3, 4], "delta": [0, 9, 5, 1]}
    table = make_table(columns, answer_key=["yes", "yes", "no", "no"])
    chosen = select(table, Judge(0.5, guard=0, **PLAIN), "clean")
    # 7/8 + 1/8 = 1, 5/8 + 3/8 = 1, 3/8 + 3/8 = 3/4, 1/8 + 1/8 = 1/4
    assert set(chosen.ids) == {"s0", "s1"}
    assert chosen.dropped["s2"] == "judged: c = 0.75, rank 3 of 4, 2 stay; loss = 3; delta = 5"
    assert chosen.dropped["s3"] == "judged: c = 0.25, rank 4 of 4, 2 stay; loss = 4; delta = 1"
    assert chosen.made_by["strata"][0]["judged_out"] == 2


def test_the_second_signal_counts_as_middling_where_it_is_undefined_and_not_at_all_with_weight_0() -> None:
    columns = {"loss": [1, 2, 3, 4], "delta": [0, 9, np.nan, 1]}
    table = make_table(columns, answer_key=["yes", "yes", "no", "no"])
    dropped = select(table, Judge(0.5, guard=0, **PLAIN), "clean").dropped
    assert dropped["s2"].startswith("judged: c = 0.625, ")  # 3/8 + 1/4
    assert dropped["s3"].startswith("judged: c = 0.375, ")  # 1/8 + 1/4: alone where it is defined
    alone = select(make_table({"loss": [1, 2, 3, 4]}), Judge(0.5, by="loss", weight=0), "clean")
    assert set(alone.ids) == {"s0", "s1"}


def test_equal_values_share_a_rank() -> None:
    table = make_table({"loss": [1, 1, 1, 9]})
    dropped = select(table, Judge(0.75, by="loss", weight=0, guard=0, balance="none"), "clean").dropped
    assert {reason.split(",")[0] for name, reason in dropped.items() if name != "s3"} == {"judged: c = 0.625"}


def test_a_task_that_looks_bad_throughout_keeps_half_its_part() -> None:
    count = 100
    columns = {"loss": np.arange(count)}
    sources = ["easy"] * 80 + ["hard"] * 20
    table = make_table(columns, source=sources)
    judge = Judge(0.5, by="loss", weight=0, balance="source")
    kept = select(table, judge, "clean")
    hard = sorted(int(name[1:]) for name in kept.ids if int(name[1:]) >= 80)
    assert hard == [80, 81, 82, 83, 84], "5 of 20: half of its half, and its best"
    assert kept.made_by["strata"][0]["least_kept_of_a_group"] == 0.25
    bare = select(table, Judge(0.5, by="loss", weight=0, balance="source", guard=0), "clean")
    assert not {name for name in bare.ids if int(name[1:]) >= 80}


@pytest.mark.parametrize("drop", [0.9, 0.95])
def test_no_group_of_20_rows_is_dropped_whole_however_much_goes(drop: float) -> None:
    answers = [f"answer {row // 20}" for row in range(400)]
    table = make_table({"loss": np.arange(400)}, answer_key=answers)
    kept = select(table, Judge(drop, by="loss", weight=0), "clean")
    assert {answers[int(name[1:])] for name in kept.ids} == set(answers)


def write_run(folder: Any, share: float | None) -> Any:
    run = make_run(folder, {"loss": np.arange(100), "delta": np.zeros(100)})
    write_spoiled(run.folder, Spoiled(share, 0.0, 1.0, 400, {"wrong_image": 200}))
    return run


@pytest.mark.parametrize(
    ("share", "keep", "judged", "why"),
    [
        (0.17, "20%", 0.17, "plants told at most 0.17"),
        (0.9, "20%", 0.6, "plants told at most 0.90; most=0.6"),
        (0.4, "49%", 0.4, "plants told at most 0.40"),
        (0.55, "49%", 0.51, "plants told at most 0.55; the budget leaves no more"),
        (0.4, "64%", 0.2, "plants told at most 0.40; the budget leaves no more"),  # 1 - sqrt(.64)
        (None, "20%", 0.5, "0.5, as no plants told"),
    ],
)
def test_how_much_is_dropped_is_told_by_plants_within_what_the_budget_leaves(
    tmp_path: Any, share: float | None, keep: str, judged: float, why: str
) -> None:
    run = write_run(tmp_path / "run", share)
    (stratum,) = select(run, Judge(by="loss", weight=0), keep).made_by["strata"]
    assert (stratum["judged_share"], stratum["judged_by"]) == (judged, why)
    assert stratum["judged_out"] == int(judged * 100)


def test_a_run_that_nobody_asked_and_a_share_of_ones_own() -> None:
    table = make_table({"loss": np.arange(10)})
    auto = Judge(by="loss", weight=0, unknown=0.3)
    (stratum,) = select(table, auto, "20%").made_by["strata"]
    assert (stratum["judged_share"], stratum["judged_by"]) == (0.3, "0.3, as no plants told")
    (stratum,) = select(table, Judge(0.95, by="loss", weight=0), "20%").made_by["strata"]
    assert (stratum["judged_share"], stratum["judged_by"]) == (0.8, "drop=0.95; the budget leaves no more")
    assert auto.asks_share
    assert not auto.unasked().asks_share
    assert not Judge(0.3).asks_share


def test_a_budget_is_drawn_from_those_that_stay_and_the_account_tells_who_was_not() -> None:
    table = make_table({"loss": np.arange(10)})
    chosen = select(table, Judge(0.5, by="loss", weight=0), 2)
    assert set(chosen.ids) <= {f"s{row}" for row in range(5)}
    stay = [chosen.dropped[f"s{row}"] for row in range(5) if f"s{row}" not in chosen.ids]
    assert stay == ["good enough, but not drawn"] * 3
    assert all(chosen.dropped[f"s{row}"].startswith("judged: ") for row in range(5, 10))
    seeds = {select(table, Judge(0.5, by="loss", weight=0), 2, seed=seed).ids for seed in range(9)}
    assert len(seeds) > 1


def test_then_hands_on_what_stays_and_reasons_tell_which_part_dropped() -> None:
    states = [[0, 0], [0.5, 0], [9, 0], [9.5, 0], [0, 8], [50, 50], [60, 60], [70, 70]]
    table = make_table({"loss": [3, 4, 2, 1, 0, 7, 8, 9], "states": states})
    selector = build_selector("judge:drop=0.25,by=loss,weight=0,guard=0 then k_center:vector=states")
    chosen = select(table, selector, 4)
    judged = {name for name, reason in chosen.dropped.items() if reason.startswith("judged: ")}
    assert judged == {"s6", "s7"}
    assert all(chosen.dropped[name].startswith("k_center: distance") for name in set(chosen.dropped) - judged)
    assert chosen.made_by["selector"] == "judge then k_center"
    assert chosen.made_by["first"]["drop"] == 0.25
    assert chosen.decisions["value"].to_pylist()[5] == 7
    # what a bare selector makes of the rows that stay
    rest = table.take([0, 1, 2, 3, 4, 5])
    assert set(chosen.ids) == set(select(rest, build_selector("k_center:vector=states"), 4).ids)


def test_words_of_two() -> None:
    selector = Then(Judge(0.3), FacilityLocation(neighbours=8))
    assert selector_word(selector) == "judge:drop=0.3 then facility_location:neighbours=8"
    assert build_selector(selector_word(selector)) == selector
    assert build_selector("judge then judge:drop=0.1 then random") == Then(Judge(), Then(Judge(0.1), Random()))
    with pytest.raises(UsageError, match="'top' cannot stand before 'then'"):
        build_selector("top then random")
    with pytest.raises(UsageError, match="no selector 'random then'"):
        build_selector("judge then random then ")
    with pytest.raises(UsageError, match=r"judge: drop=1.5 cannot be meant; give one of auto or a number at least 0"):
        build_selector("judge:drop=1.5 then random")
    assert Then(Judge(), Top()).asks_share
    assert not Then(Judge(), Top()).unasked().asks_share


def test_text_only_rows_are_judged_among_themselves_by_what_they_have() -> None:
    columns = {"loss": np.arange(40), "delta": [*range(20), *[np.nan] * 20]}
    table = make_table(columns, images=np.array([1] * 20 + [0] * 20, np.int32))
    kept = select(table, Judge(0.5, **PLAIN), "clean")
    assert sum(int(name[1:]) >= 20 for name in kept.ids) == 10
    assert {stratum["stratum"] for stratum in kept.made_by["strata"]} == {"images", "text-only"}


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_equals_the_slow_way(data: Any) -> None:
    """All in exact fractions, row by row."""
    count = data.draw(st.integers(1, 60))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    loss, delta = rng.permutation(count), rng.permutation(count)
    answers = [f"a{number}" for number in rng.integers(0, 4, count)]
    drop, guard = data.draw(st.sampled_from([0.0, 0.25, 0.5, 0.75])), data.draw(st.sampled_from([0.0, 0.5]))
    table = make_table({"loss": loss, "delta": delta}, answer_key=answers)
    kept = select(table, Judge(drop, weight=0.5, guard=guard, **PLAIN), "clean")
    assert set(kept.ids) == {f"s{row}" for row in slow_judge(loss, delta, answers, drop, guard)}


def slow_judge(loss: Any, delta: Any, answers: list[str], drop: float, guard: float) -> set[int]:
    count = len(loss)
    criterion = []
    for row in range(count):
        worse = sum(other > loss[row] for other in loss)
        group = [other for other in range(count) if answers[other] == answers[row]]
        less = sum(delta[other] < delta[row] for other in group)
        first = Fraction(2 * worse + 1, 2 * count)
        criterion.append(first + Fraction(1, 2) * Fraction(2 * less + 1, 2 * len(group)))
    # what ties is decided by the seeded order, which select alone knows: such cases prove nothing
    if len(set(criterion)) < count:
        table = make_table({"loss": loss, "delta": delta}, answer_key=answers)
        kept = select(table, Judge(drop, weight=0.5, guard=guard, **PLAIN), "clean").ids
        return {int(name[1:]) for name in kept}
    stay = count - int(drop * count)
    names = sorted(set(answers))
    sizes = [answers.count(name) for name in names]
    parts = shared_out(int(guard * stay), sizes)
    for place, size in enumerate(sizes):
        if guard and size >= 20 and parts[place] == 0 and sum(parts) < stay:
            parts[place] = 1
    chosen: set[int] = set()
    for name, part in zip(names, parts, strict=True):
        members = [row for row in range(count) if answers[row] == name]
        chosen |= set(sorted(members, key=lambda row: -criterion[row])[:part])
    rest = sorted(set(range(count)) - chosen, key=lambda row: -criterion[row])
    return chosen | set(rest[: stay - len(chosen)])


def shared_out(budget: int, sizes: list[int]) -> list[int]:
    """In proportion, by largest remainders, ties to the earlier."""
    exact = [Fraction(budget * size, sum(sizes)) for size in sizes]
    parts = [int(share) for share in exact]
    order = sorted(range(len(sizes)), key=lambda place: parts[place] - exact[place])
    for place in order[: budget - sum(parts)]:
        parts[place] += 1
    return parts
