"""Quotas: exact, proportional, within the room; and the best of each group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmsift.choosing.groups import Groups
from vlmsift.choosing.quota import best_of_groups, ranks_within, split


@pytest.mark.parametrize(
    ("budget", "weights", "room", "quotas"),
    [
        (10, [50, 30, 20], [50, 30, 20], [5, 3, 2]),
        (5, [6, 5, 4], [6, 5, 4], [2, 2, 1]),  # 2, 1.67, 1.33
        (1, [2, 2, 2], [2, 2, 2], [1, 0, 0]),  # ties to the earlier group
        (2, [1, 1, 1], [1, 1, 1], [1, 1, 0]),
        (6, [6, 1, 5], [6, 1, 5], [3, 1, 2]),  # 3, 0.5, 2.5: the tie of the halves to the earlier
        (10, [8, 1, 1], [4, 9, 9], [4, 3, 3]),  # what the full group cannot take goes to the others
        (10, [1, 0, 0], [4, 9, 2], [4, 4, 2]),  # only groups without weight are left: evenly
        (7, [0.5, 0.25, 0.25], [9, 9, 9], [3, 2, 2]),
        (0, [3, 4], [3, 4], [0, 0]),
        (7, [3, 4], [3, 4], [3, 4]),
        (0, [], [], []),
    ],
)
def test_by_hand(budget: int, weights: list[Any], room: list[int], quotas: list[int]) -> None:
    assert split(budget, weights, room).tolist() == quotas


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.data())
def test_in_proportion_to_sizes_within_one(sizes: list[int], data: st.DataObject) -> None:
    total = sum(sizes)
    budget = data.draw(st.integers(0, total))
    quotas = split(budget, sizes, sizes)
    assert quotas.sum() == budget
    assert (quotas <= sizes).all()
    assert (np.abs(quotas - budget * np.array(sizes) / max(total, 1)) < 1).all()


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 40)), min_size=1, max_size=12), st.data())
def test_any_weights_spend_the_budget_within_the_room(groups: list[tuple[float, int]], data: st.DataObject) -> None:
    weights, room = zip(*groups, strict=True)
    budget = data.draw(st.integers(0, sum(room)))
    quotas = split(budget, weights, room)
    assert quotas.sum() == budget
    assert (quotas >= 0).all()
    assert (quotas <= room).all()


@pytest.mark.parametrize("budget", [-1, 8])
def test_a_budget_that_does_not_fit_is_a_fault(budget: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        split(budget, [3, 4], [3, 4])


def test_ranks_start_anew_in_each_group_and_keep_the_order_of_ties() -> None:
    values, codes = np.array([5.0, 1, 3, 3, 0]), np.array([1, 0, 1, 1, 0])
    assert ranks_within(values, codes).tolist() == [2, 1, 0, 1, 0]


def test_the_best_of_each_group_best_first_over_all() -> None:
    groups = Groups(np.array([0, 0, 0, 1, 1]), ["cats", "dogs"], {"balance": "source"})
    choice = best_of_groups(np.array([3.0, 1, 2, 0, 9]), groups, np.array([2, 1]))
    assert choice.kept.tolist() == [3, 1, 2]
    assert choice.groups.to_pylist() == ["cats", "cats", "cats", "dogs", "dogs"]
    assert choice.reasons.to_pylist()[0] == "rank 3 of 3 in group 'cats', the group keeps 2"
    assert choice.reasons.to_pylist()[4] == "rank 2 of 2 in group 'dogs', the group keeps 1"
    assert choice.details == {"balance": "source", "groups": 2}
