"""Farthest-first traversal: by hand, against a loop, within its bound, and by clusters."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from tests.sample_runs import make_table
from tests.selectors.parts import candidates
from vlmsift.choosing.clusters import search_cells
from vlmsift.selecting import select
from vlmsift.selectors import KCenter


def by_the_book(points: np.ndarray, budget: int, first: int) -> list[int]:
    kept = [first]
    while len(kept) < budget:
        far = [min(np.linalg.norm(point - points[row]) for row in kept) for point in points]
        kept.append(int(np.argmax(far)))
    return kept


def test_on_a_line() -> None:
    """0, 1, 4, 10, 3 with the mean 3.6: 10 is farthest, then 0, then 4 (4 from 0), then 1 and 3 (1 each)."""
    rows = candidates({"hidden_mean": [[0, 5], [1, 5], [4, 5], [10, 5], [3, 5]]})
    choice = KCenter()(rows, 3)
    assert choice.kept.tolist() == [3, 0, 2]
    assert choice.reasons.to_pylist()[1::3] == ["distance 1 to 's0'", "distance 1 to 's2'"]
    assert choice.details == {"cells": 1, "largest_distance_to_kept": pytest.approx(1, abs=1e-3)}
    assert sorted(KCenter()(rows, 5).kept[3:].tolist()) == [1, 4]
    assert KCenter(start="random")(rows, 3).kept.tolist() == [0, 3, 2]


def test_the_whole_against_a_loop() -> None:
    points = np.random.default_rng(1).normal(size=(40, 5)).astype(np.float32) + 100
    first = int(np.linalg.norm(points - points.mean(axis=0), axis=1).argmax())
    rows = candidates({"v": points})
    assert KCenter("v")(rows, 25).kept.tolist() == by_the_book(points.astype(float), 25, first)
    assert KCenter("v", "random")(rows, 25).kept.tolist() == by_the_book(points.astype(float), 25, 0)


def test_no_farther_than_twice_the_best() -> None:
    def radius(kept: Any) -> float:
        return float(np.linalg.norm(points[:, None] - points[None, list(kept)], axis=2).min(axis=1).max())

    for seed in range(5):
        points = np.random.default_rng(seed).normal(size=(11, 2))
        best = min(radius(some) for some in combinations(range(11), 3))
        choice = KCenter("v")(candidates({"v": points}), 3)
        assert radius(choice.kept) <= 2 * best + 1e-5
        assert choice.details["largest_distance_to_kept"] == pytest.approx(radius(choice.kept), rel=1e-4)


def test_doubles_come_last_and_chance_decides_among_them() -> None:
    table = make_table({"hidden_mean": np.repeat(np.eye(5), 3, axis=0)})
    for seed in range(5):
        assert len({int(key[1:]) // 3 for key in select(table, KCenter(), 5, seed=seed).ids}) == 5
    assert len({select(table, KCenter(start="random"), 1, seed=seed).ids for seed in range(20)}) > 5


def test_a_large_pool_is_traversed_by_clusters() -> None:
    """Each cluster opens with its row farthest from the mean; then the farthest row of any cluster is next."""
    points = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    points -= points.mean(axis=0)
    choice = KCenter("v", whole=59)(candidates({"v": points}), 20)
    cells = search_cells(points, 59)
    assert choice.details["cells"] == cells.max() + 1 == 11
    norms = np.linalg.norm(points, axis=1)
    firsts = [max(np.flatnonzero(cells == cell), key=lambda row: norms[row]) for cell in range(11)]
    assert choice.kept[:11].tolist() == sorted(firsts, key=lambda row: -norms[row])
    kept = list(map(int, choice.kept))
    for step in range(11, 20):
        far = {
            row: min(np.linalg.norm(points[row] - points[other]) for other in kept[:step] if cells[other] == cells[row])
            for row in range(60)
        }
        assert kept[step] == max(far, key=lambda row: far[row])


def test_a_cluster_that_the_budget_misses_says_so() -> None:
    points = np.random.default_rng(0).normal(size=(60, 2))
    reasons = KCenter("v", whole=59)(candidates({"v": points}), 1).reasons.to_pylist()
    assert 1 < reasons.count("the budget ends before its cluster keeps one") < 60
    nothing = KCenter("v")(candidates({"v": points}), 0)
    assert len(nothing.kept) == 0
    assert set(nothing.reasons.to_pylist()) == {"the budget ends before its cluster keeps one"}
