"""SemDeDup: similarities to earlier rows against a loop, eps that means what it says, and keepers by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.sample_runs import make_table
from tests.selectors.parts import candidates
from vlmsift.choosing.spherical import spherical_k_means, to_units
from vlmsift.errors import UsageError
from vlmsift.selecting import select
from vlmsift.selectors import SemDeDup, semdedup


def at(*degrees: float) -> np.ndarray:
    """Unit vectors at those angles, (n, 2)."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


# one cluster around 10 degrees: from far to near s2 (40), s0 (-10), s3 (20), s1 (0): as the centre is at 12.3 degrees
FAN = at(-10, 0, 40, 20)


def cosine(degrees: float) -> float:
    return round(float(np.cos(np.radians(degrees))), 6)


def test_similarity_to_earlier_rows_by_hand() -> None:
    hard = SemDeDup("v", clusters=1)._likes(candidates({"v": FAN * 7}))
    # s2 first; s0 to s2 50 degrees; s1 (12 from the centre) before s3 (8): s1 to s0 10; s3 to s1 or s2 20
    assert hard.similarity.tolist() == [cosine(50), cosine(10), -np.inf, cosine(20)]
    assert hard.earlier[[0, 1, 2]].tolist() == [2, 0, 2]
    easy = SemDeDup("v", clusters=1, keep_first="easy")._likes(candidates({"v": FAN}))
    # s3, s1 (20 from s3), s0 (10 from s1), s2 (20 from s3)
    assert easy.similarity.tolist() == [cosine(10), cosine(20), cosine(20), -np.inf]
    assert easy.earlier.tolist() == [1, 3, 3, 3]


@pytest.mark.parametrize(("budget", "ids"), [(1, ["s2"]), (2, ["s2", "s0"]), (3, ["s2", "s0", "s3"])])
def test_eps_is_solved_for_the_budget(budget: int, ids: list[str]) -> None:
    chosen = select(make_table({"v": FAN}), SemDeDup("v", clusters=1), budget)
    assert list(chosen.ids) == ids
    eps = chosen.made_by["strata"][0]["eps"]
    assert eps == pytest.approx({1: 2, 2: 1 - cosine(50), 3: 1 - cosine(20)}[budget])
    again = SemDeDup("v", clusters=1, eps=eps)
    assert again.survivors(candidates({"v": FAN})) == budget
    assert set(select(make_table({"v": FAN}), again, budget).ids) == set(ids)


def by_the_book(vectors: np.ndarray, clusters: int, eps: float, hard: bool) -> set[int]:
    """Survivors, cluster by cluster and pair by pair."""
    units = to_units(vectors.copy())
    found = spherical_k_means(units, clusters)
    kept = set()
    for code, rows in enumerate(found.members()):
        queue = sorted(rows.tolist(), key=lambda row: float(units[row] @ found.centres[code]), reverse=not hard)
        for place, row in enumerate(queue):
            if all(units[row] @ units[earlier] <= 1 - eps for earlier in queue[:place]):
                kept.add(row)
    return kept


@pytest.mark.parametrize("keep_first", ["hard", "easy"])
@pytest.mark.parametrize("block", [3, 1024])
def test_the_whole_against_a_loop(monkeypatch: pytest.MonkeyPatch, keep_first: Any, block: int) -> None:
    monkeypatch.setattr(semdedup, "_ROWS", block)
    vectors = np.random.default_rng(2).normal(size=(50, 4)).astype(np.float32)
    rows = candidates({"v": vectors})
    for budget in (8, 20, 45):
        choice = SemDeDup("v", clusters=4, keep_first=keep_first)(rows, budget)
        assert set(choice.kept.tolist()) == by_the_book(vectors, 4, choice.details["eps"] - 1e-6, keep_first == "hard")


def test_reasons_name_a_keeper_who_is_kept() -> None:
    vectors = np.random.default_rng(2).normal(size=(50, 4))
    chosen = select(make_table({"v": vectors}), SemDeDup("v", clusters=3), 10)
    assert len(chosen.dropped) == 40
    for reason in chosen.dropped.values():
        assert reason.startswith("similarity ")
        assert reason.rpartition("its keeper is ")[2].strip("'") in chosen.ids
    assert select(make_table({"v": FAN}), SemDeDup("v", clusters=1), 2).dropped["s1"] == (
        "similarity 0.9848 to 's0' is not below 0.642788; its keeper is 's0'"
    )
    # s3's nearest earlier sample (s1 or s2) may be dropped itself: then it is that one's keeper
    assert (
        select(make_table({"v": FAN}), SemDeDup("v", clusters=1), 1)
        .dropped["s1"]
        .endswith("to 's0' is not below -1; its keeper is 's2'")
    )


def test_doubles_go_first_and_by_chance() -> None:
    table = make_table({"v": np.repeat(np.random.default_rng(0).normal(size=(6, 5)), 2, axis=0)})
    draws = [select(table, SemDeDup("v", clusters=2), 6, seed=seed).ids for seed in range(12)]
    assert all(len({int(key[1:]) // 2 for key in ids}) == 6 for ids in draws)
    assert {key for ids in draws for key in ids} == {f"s{row}" for row in range(12)}


def test_fewer_than_clusters_draws_among_first_ones() -> None:
    table = make_table({"v": np.repeat(np.eye(4), 3, axis=0)})
    chosen = select(table, SemDeDup("v", clusters=4), 2)
    assert len({int(key[1:]) // 3 for key in chosen.ids}) == 2
    assert sum("the budget ends before cluster" in reason for reason in chosen.dropped.values()) == 6


def test_a_given_eps_draws_among_survivors_and_refills() -> None:
    vectors = at(0, 1, 90, 91, 180, 184)
    table = make_table({"v": vectors})
    selector = SemDeDup("v", clusters=3, eps=0.01)
    assert selector.survivors(candidates({"v": vectors})) == 3
    chosen = select(table, selector, 2)
    assert len({int(key[1:]) // 2 for key in chosen.ids}) == 2
    assert sorted(select(table, selector, 4).ids, key=lambda key: int(key[1:]))[-2:] == ["s4", "s5"]  # 4 degrees apart
    pairs = [select(table, selector, 2, seed=seed).ids for seed in range(10)]
    assert len({frozenset(int(key[1:]) // 2 for key in ids) for ids in pairs}) == 3


def test_clean_keeps_the_survivors_and_looks_for_likes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(semdedup, "spherical_k_means", lambda *how: calls.append(how) or spherical_k_means(*how))
    table = make_table({"v": at(0, 1, 90, 91, 180, 184)})
    chosen = select(table, SemDeDup("v", clusters=3, eps=0.001), "clean")
    assert len(calls) == 1
    assert len(chosen.ids) == chosen.made_by["budget"] == 4  # 1 degree apart is too near, 4 are not
    assert {"s4", "s5"} < set(chosen.ids)
    assert all("its keeper is" in reason for reason in chosen.dropped.values())
    with pytest.raises(UsageError, match=r"keep='clean' cannot be meant with eps=None.*semdedup:eps=0.05"):
        select(table, SemDeDup("v"), "clean")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"eps": -0.1}, "eps=-0.1"), ({"eps": 2.1}, "eps=2.1"), ({"eps": float("nan")}, "eps=nan")],
)
def test_what_cannot_be_meant(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SemDeDup(**wrong)
