"""COINCIDE's steps against cases done by hand and against brute force; the whole against a loop."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from tests.sample_runs import make_table
from tests.selectors.parts import candidates
from vlmsift.choosing.spherical import spherical_k_means, to_units
from vlmsift.errors import UsageError
from vlmsift.selecting import select
from vlmsift.selectors import Coincide
from vlmsift.selectors.coincide import mean_kernel, mean_similarity, mirror, walk


def kernel(a: np.ndarray, b: np.ndarray, bandwidth: float = 1.0) -> float:
    return float(np.exp(-np.sum((a - b) ** 2) / (2 * bandwidth**2)))


def test_mean_similarity_leaves_itself_and_near_doubles_out() -> None:
    units = np.array([[1, 0], [0.6, 0.8], [0, 1], [1, 0]], np.float32)
    # of the first: 0.6 and 0 count, its double does not; of the third: 0.8 and 0 and 0
    np.testing.assert_allclose(mean_similarity(units, 0.9), [0.3, (0.6 + 0.8 + 0.6) / 3, 0.8 / 3, 0.3], atol=1e-6)
    np.testing.assert_allclose(mean_similarity(units, 0.7), [0.3, 0.6, 0, 0.3], atol=1e-6)
    assert mean_similarity(units[[0, 3]], 0.9).tolist() == [1, 1]
    assert mean_similarity(units[:1], 0.9).tolist() == [1]
    assert mean_similarity(np.zeros((2, 2), np.float32), 0.9).tolist() == [0, 0]  # never itself, whatever it is


def test_mean_similarity_and_kernel_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    units = to_units(np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32))
    whole = mean_similarity(units, 0.5), mean_kernel(units.astype(float), 0.7)
    monkeypatch.setattr("vlmsift.selectors.coincide._ROWS", 7)
    np.testing.assert_allclose(mean_similarity(units, 0.5), whole[0], atol=1e-6)
    np.testing.assert_allclose(mean_kernel(units.astype(float), 0.7), whole[1], atol=1e-12)


def test_mean_kernel_by_hand() -> None:
    points = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    near, far = np.exp(-1), np.exp(-2)  # squared distances 2 and 4
    np.testing.assert_allclose(
        mean_kernel(points, 1.0), [(1 + near + far) / 3, (1 + 2 * near) / 3, (1 + near + far) / 3]
    )
    twin = [np.mean([kernel(a, b, 0.5) for b in points]) for a in points]
    np.testing.assert_allclose(mean_kernel(points, 0.5), twin)


@pytest.mark.parametrize(
    ("budget", "shares", "room", "quotas"),
    [
        (10, [0.5, 0.3, 0.2], [9, 9, 9], [5, 3, 2]),
        (10, [0.2, 0.5, 0.3], [9, 9, 9], [2, 5, 3]),
        (10, [0.5, 0.3, 0.2], [2, 9, 9], [2, 5, 3]),  # 8 * 0.6 = 4.8
        (10, [0.5, 0.3, 0.2], [5, 9, 1], [5, 4, 1]),  # 3 and 1, then 1 more for the only one with room
        (1, [0.4, 0.3, 0.3], [9, 9, 9], [0, 0, 1]),  # 0.4 and 0.5 round to 0
        (12, [0.9, 0.1, 0.0], [4, 4, 4], [4, 4, 4]),
        (0, [0.9, 0.1], [4, 4], [0, 0]),
    ],
)
def test_walk(budget: int, shares: list[float], room: list[int], quotas: list[int]) -> None:
    with np.errstate(divide="ignore"):
        logits = np.maximum(np.log(shares), -1e3)
    assert walk(budget, logits, np.array(room)).tolist() == quotas
    assert walk(budget, logits + 5000, np.array(room)).tolist() == quotas  # no overflow


def test_walk_meets_every_budget() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        room = rng.integers(1, 8, 6)
        for budget in range(room.sum() + 1):
            quotas = walk(budget, rng.normal(size=6) * 20, room)
            assert quotas.sum() == budget
            assert (quotas <= room).all()


def squared_mmd(points: np.ndarray, chosen: list[int], bandwidth: float) -> float:
    """Between all points and the chosen, from its definition."""
    some = points[chosen]
    mean = [np.mean([kernel(a, b, bandwidth) for a, b in product(*pair)]) for pair in
            ((points, points), (some, some), (points, some))]  # fmt: skip
    return float(mean[0] + mean[1] - 2 * mean[2])


@pytest.mark.parametrize("bandwidth", [1.0, 0.3])
def test_mirror_is_greedy_mmd(bandwidth: float) -> None:
    points = np.random.default_rng(7).normal(size=(9, 3))
    likeness = mean_kernel(points, bandwidth)
    chosen: list[int] = []
    for _ in range(9):
        left = [row for row in range(9) if row not in chosen]
        chosen.append(min(left, key=lambda row: squared_mmd(points, [*chosen, row], bandwidth)))
    for quota in range(10):
        order = np.argsort(mirror(points, likeness, quota, bandwidth))
        assert order[: quota + 1].tolist() == chosen[: quota + 1]  # and who would be next


def by_the_book(states: np.ndarray, budget: int, clusters: int) -> dict[int, int]:
    """cluster -> how many it keeps, step by step from the formulas."""
    found = spherical_k_means(states.copy(), clusters)
    groups = [states[rows] for rows in found.members()]
    half = found.centres.shape[1] // 2
    texts = [centre[half:] / np.linalg.norm(centre[half:]) for centre in found.centres]
    logits = []
    for code, group in enumerate(groups):
        cosines = [float(text @ texts[code]) for other, text in enumerate(texts) if other != code]
        transfer = np.mean([cosine for cosine in cosines if cosine <= 0.9])
        density = np.mean([kernel(a, b) for a, b in product(group.astype(float), repeat=2)])
        logits.append(transfer / (density * 0.1))
    left, quotas = dict(enumerate(np.exp(logits))), {}
    while left:
        code = max(left, key=lambda key: left[key])
        quotas[code] = min(round(budget * left[code] / sum(left.values())), len(groups[code]))
        budget -= quotas[code]
        del left[code]
    assert budget == 0, "the case needs no refill"
    return quotas


def test_the_whole_against_a_loop() -> None:
    states = to_units(np.random.default_rng(5).normal(size=(60, 6)).astype(np.float32))
    choice = Coincide("z", clusters=5)(candidates({"z": states}), 20)
    codes = spherical_k_means(states.copy(), 5).codes
    assert dict(enumerate(np.bincount(codes[choice.kept], minlength=5).tolist())) == by_the_book(states, 20, 5)


def test_transfer_looks_at_the_text_half() -> None:
    image, text = np.eye(3), np.array([[1, 0, 0], [0.8, 0.6, 0], [-1, 0, 0]])
    units = to_units(np.concatenate([image, text], axis=1).astype(np.float32))
    half = Coincide()._compared(units)
    np.testing.assert_allclose(half @ half.T, text @ text.T, atol=1e-6)
    assert Coincide(transfer="both")._compared(units) is units
    np.testing.assert_allclose(np.linalg.norm(units, axis=1), 1, atol=1e-6)  # the centres stay what they are


def test_kept_rows_begin_with_each_cluster_s_first() -> None:
    states = np.repeat(np.eye(4), 5, axis=0) + np.random.default_rng(0).normal(0, 0.05, (20, 4))
    choice = Coincide("z", clusters=4)(candidates({"z": states}), 12)
    groups = np.array(choice.groups.to_pylist())
    quotas = {name: int((groups[choice.kept] == name).sum()) for name in set(groups[choice.kept])}
    assert set(groups[choice.kept[: len(quotas)]]) == set(quotas)
    assert len(quotas) > 2
    told = choice.reasons.to_pylist()
    for place in set(range(20)) - set(choice.kept.tolist()):
        assert told[place].endswith(f"in group {str(groups[place])!r}, the group keeps {quotas.get(groups[place], 0)}")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"bandwidth": float("nan")}, "bandwidth=nan"),
        ({"vector": "odd"}, r"'odd' has 3 numbers, which are not two halves.*transfer='both'"),
    ],
)
def test_what_cannot_be_meant(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        select(make_table({"concept_states": np.eye(4), "odd": np.ones((4, 3))}), Coincide(**wrong), 1)
