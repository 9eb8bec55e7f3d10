"""Facility location: the graph and the greedy choice against brute force."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from tests.sample_runs import make_table
from tests.selectors.parts import candidates
from vlmsift.choosing.spherical import to_units
from vlmsift.selecting import select
from vlmsift.selectors import FacilityLocation
from vlmsift.selectors.facility_location import greedy, neighbour_graph


def noise(count: int, width: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def worth(similarity: np.ndarray, kept: list[int]) -> float:
    return float(similarity[:, kept].max(axis=1).sum()) if kept else 0.0


def by_the_book(similarity: np.ndarray, budget: int) -> list[int]:
    kept: list[int] = []
    for _ in range(budget):
        left = [column for column in range(len(similarity)) if column not in kept]
        kept.append(max(left, key=lambda column: round(worth(similarity, [*kept, column]), 9)))
    return kept


@pytest.mark.parametrize("neighbours", [1, 3, 100])
@pytest.mark.parametrize("cells", [[0] * 20, [0, 1] * 10, [0] * 19 + [1]])
def test_the_graph_is_the_nearest_cosines(neighbours: int, cells: list[int]) -> None:
    units = to_units(noise(20))
    graph = neighbour_graph(units, np.array(cells), neighbours).toarray()
    cosines = units.astype(float) @ units.T
    for row in range(20):
        others = [other for other in range(20) if other != row and cells[other] == cells[row]]
        nearest = sorted(others, key=lambda other: -cosines[row, other])[:neighbours]
        expected = np.where(np.isin(np.arange(20), nearest), np.maximum(cosines[row], 0), 0)
        expected[row] = 1
        np.testing.assert_allclose(graph[row], expected, atol=2e-6)


def test_a_case_by_hand() -> None:
    """Columns stand for (0.9 + 1 + 0.8, ...): s1 first for three rows, then s3 for itself and s4, then s0."""
    from scipy.sparse import csc_array

    similarity = np.eye(5)
    for row, column, value in ((0, 1, 0.9), (2, 1, 0.8), (1, 0, 0.9), (4, 3, 0.5), (1, 2, 0.8)):
        similarity[row, column] = value
    kept, best, whose = greedy(csc_array(similarity), 3)
    assert kept.tolist() == [1, 3, 4]  # gains 2.7, 1.5, 0.5
    assert best.tolist() == [0.9, 1, 0.8, 1, 1]
    assert whose.tolist() == [1, 1, 1, 3, 4]


@pytest.mark.parametrize("seed", range(4))
def test_lazy_is_greedy(seed: int) -> None:
    graph = neighbour_graph(to_units(noise(30, 3, seed)), np.zeros(30, np.int64), 8)
    kept, best, _ = greedy(graph, 30)
    expected = by_the_book(graph.toarray(), 30)
    assert kept.tolist() == expected
    assert best.tolist() == [1] * 30


def test_greedy_reaches_its_bound() -> None:
    for seed in range(5):
        similarity = neighbour_graph(to_units(noise(10, 3, seed)), np.zeros(10, np.int64), 9)
        best = max(worth(similarity.toarray(), list(some)) for some in combinations(range(10), 3))
        found = worth(similarity.toarray(), greedy(similarity, 3)[0].tolist())
        assert (1 - 1 / np.e) * best <= found <= best + 1e-9


def test_each_heap_has_its_one_and_doubles_come_last() -> None:
    heaps = np.repeat(np.eye(4), 5, axis=0) + 3  # directions from the mean differ, plain ones hardly
    table = make_table({"hidden_mean": heaps})
    chosen = select(table, FacilityLocation(neighbours=6), 4)
    assert {int(key[1:]) // 5 for key in chosen.ids} == {0, 1, 2, 3}
    assert chosen.made_by["strata"][0]["mean_similarity_to_kept"] == pytest.approx(1)
    for key, reason in chosen.dropped.items():
        keeper = next(other for other in chosen.ids if int(other[1:]) // 5 == int(key[1:]) // 5)
        assert reason == f"stood for: similarity 1 to '{keeper}'"


def test_a_large_pool_is_searched_by_clusters() -> None:
    heaps = np.repeat(np.eye(3), 30, axis=0) + np.random.default_rng(0).normal(0, 0.01, (90, 3))
    choice = FacilityLocation("v", whole=80)(candidates({"v": heaps}), 8)
    assert choice.details["cells"] >= 9
    assert {int(place) // 30 for place in choice.kept} == {0, 1, 2}
    whole = FacilityLocation("v")(candidates({"v": heaps}), 8)
    assert whole.details["cells"] == 1
    assert choice.details["mean_similarity_to_kept"] > whole.details["mean_similarity_to_kept"] - 0.2


def test_no_budget_no_similar_sample() -> None:
    choice = FacilityLocation("v")(candidates({"v": np.eye(3)}), 0)
    assert len(choice.kept) == 0
    assert set(choice.reasons.to_pylist()) == {"no kept sample is among its neighbours, and others stand for more"}
