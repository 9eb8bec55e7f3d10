"""k-means by direction: finds what is there, differs from the plain one where it should, the same on any machine."""

from __future__ import annotations

import numpy as np
import pytest

from vlmsift.choosing import spherical
from vlmsift.choosing.spherical import fine_clusters, spherical_k_means, to_units


def bundles(count: int, directions: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(count, 8) unit float32 around `directions` axes, and which axis each is of."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, directions, count)
    return to_units((3 * np.eye(8)[truth] + rng.normal(0, 0.2, (count, 8))).astype(np.float32)), truth


def agree(found: np.ndarray, truth: np.ndarray) -> bool:
    """Whether two labellings are the same partition."""
    pairs = len({*zip(found.tolist(), truth.tolist(), strict=True)})
    return pairs == len(set(found.tolist())) == len(set(truth.tolist()))


def test_finds_bundles_also_in_blocks_and_from_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    units, truth = bundles(300, 4)
    assert agree(spherical_k_means(units, 4).codes, truth)
    monkeypatch.setattr(spherical, "BLOCK", 40)
    monkeypatch.setattr(spherical, "FITTED_PER_CLUSTER", 20)
    assert agree(spherical_k_means(units, 4).codes, truth)


def test_each_row_is_with_its_nearest_centre_and_each_centre_is_its_rows_direction() -> None:
    units = to_units(np.random.default_rng(1).normal(size=(200, 5)).astype(np.float32))
    codes, centres = spherical_k_means(units, 7, seed=2)
    assert (codes == (units @ centres.T).argmax(axis=1)).all()
    sums = np.stack([units[codes == code].sum(axis=0) for code in range(len(centres))])
    np.testing.assert_allclose(centres, sums / np.linalg.norm(sums, axis=1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-6)


def test_the_number_of_cores_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    units, _ = bundles(400, 6)
    monkeypatch.setattr(spherical, "BLOCK", 60)
    found = []
    for cores in (1, 3):
        monkeypatch.setattr(spherical.os, "cpu_count", lambda cores=cores: cores)
        found.append(spherical_k_means(units, 9, seed=4))
    np.testing.assert_array_equal(found[0].codes, found[1].codes)
    np.testing.assert_array_equal(found[0].centres, found[1].centres)


def test_members_are_the_rows_of_each_cluster() -> None:
    found = spherical_k_means(bundles(50, 3)[0], 3)
    assert [rows.tolist() for rows in found.members()] == [
        np.flatnonzero(found.codes == code).tolist() for code in range(3)
    ]


@pytest.mark.parametrize("units", [np.ones((20, 4)) / 2, np.zeros((5, 4)), np.array([[1, 0], [-1, 0]] * 4), np.eye(1)])
def test_rows_that_coincide_share_a_cluster(units: np.ndarray) -> None:
    codes, centres = spherical_k_means(units.astype(np.float32), 4)
    assert len(centres) == len(np.unique(units, axis=0)) == codes.max() + 1
    assert agree(codes, np.unique(units, axis=0, return_inverse=True)[1].ravel())


@pytest.mark.parametrize(
    ("count", "clusters"),
    [(1, 1), (2, 1), (200, 10), (10_000, 151), (186_000, 2818), (665_000, 10_000), (10**8, 10_000)],
)
def test_default_number(count: int, clusters: int) -> None:
    assert fine_clusters(count) == clusters
    if count <= 200:
        assert len(spherical_k_means(bundles(count, 3)[0], count + 1).centres) <= clusters
