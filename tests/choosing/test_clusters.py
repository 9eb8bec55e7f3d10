"""k-means: finds what is there, the same each time, and bears any number of rows."""

from __future__ import annotations

import numpy as np
import pytest

from vlmsift.choosing import clusters
from vlmsift.choosing.clusters import default_clusters, k_means, search_cells


def blobs(count: int, directions: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(count, 8) float32 around `directions` axes, and which axis each is of."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, directions, count)
    return (5 + 3 * np.eye(8)[truth] + rng.normal(0, 0.1, (count, 8))).astype(np.float32), truth


def agree(found: np.ndarray, truth: np.ndarray) -> bool:
    """Whether two labellings are the same partition."""
    pairs = len({*zip(found.tolist(), truth.tolist(), strict=True)})
    return pairs == len(set(found.tolist())) == len(set(truth.tolist()))


@pytest.mark.parametrize("small", [10_000, 50])
def test_finds_blobs_with_either_algorithm_and_in_chunks(monkeypatch: pytest.MonkeyPatch, small: int) -> None:
    monkeypatch.setattr(clusters, "SMALL", small)
    monkeypatch.setattr(clusters, "CHUNK", 64)
    vectors, truth = blobs(600, 4)
    assert agree(k_means(vectors, 4), truth)


def test_fits_on_a_part_and_assigns_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "SMALL", 20)
    monkeypatch.setattr(clusters, "FITTED_PER_CLUSTER", 20)
    vectors, truth = blobs(400, 3)
    assert agree(k_means(vectors, 3), truth)


def test_direction_or_distance() -> None:
    lengths = np.array([1, 2, 100, 101, -1, -2, -100, -101], np.float32)
    vectors = np.outer(lengths, [1, 1]).astype(np.float32)
    assert agree(k_means(vectors, 2), np.array([0, 0, 0, 0, 1, 1, 1, 1]))
    assert agree(k_means(vectors, 3, spherical=False), np.array([0, 0, 1, 1, 0, 0, 2, 2]))


def test_the_same_again_with_the_same_seed() -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    first = k_means(vectors, 10, seed=3)
    assert first.tolist() == k_means(vectors, 10, seed=3).tolist()
    assert first.tolist() != k_means(vectors, 10, seed=4).tolist()


@pytest.mark.parametrize(("count", "number"), [(1, 1), (2, 1), (8, 2), (200, 10), (10**7, 1000)])
def test_default_number(count: int, number: int) -> None:
    assert default_clusters(count) == number


def test_more_clusters_than_rows_is_the_default_number() -> None:
    vectors = np.eye(8, dtype=np.float32)
    assert set(k_means(vectors, 9)) == {0, 1}
    assert set(k_means(vectors, 8)) == set(range(8))
    assert k_means(vectors[:1], 5).tolist() == [0]
    assert k_means(vectors[:0]).tolist() == []


@pytest.mark.parametrize("spherical", [True, False])
def test_equal_rows_share_a_cluster(spherical: bool) -> None:
    vectors = np.ones((20, 4), np.float32)
    assert set(k_means(vectors, 5, spherical=spherical)) == {0}


def test_a_search_is_whole_or_in_cells_that_none_outgrows() -> None:
    vectors, truth = blobs(600, 3)
    vectors[truth == 0] = vectors[truth == 0][0]  # 200 equal rows, which no clustering parts
    assert not search_cells(vectors, 600).any()
    cells = search_cells(vectors, 250)
    sizes = np.bincount(cells)
    assert sizes.min() >= 1
    assert sizes.max() <= 50
    assert all(len(set(truth[cells == cell].tolist())) == 1 for cell in range(len(sizes)))
    assert cells.tolist() == search_cells(vectors, 250).tolist()
