"""XMAS's and S2L's selector: quotas by hand, the whole against a loop written from the papers' description."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sample_runs import make_table
from tests.selectors.parts import candidates
from vlmsift.choosing.clusters import k_means
from vlmsift.errors import UsageError
from vlmsift.selecting import select
from vlmsift.selectors import Trajectories, trajectories
from vlmsift.selectors.trajectories import evenly, evenly_but_small

# near 0: s0 moves by 3, s1 by 1, s2 by 2; near 100: s3 by 4, s4 by 0, s5 by 6, s6 by 5
PATHS = [[0, 1, 3], [0, 1, 1], [1, 0, 1], [100, 102, 100], [100, 100, 100], [100, 103, 100], [100, 105, 105]]


@pytest.mark.parametrize(
    ("budget", "sizes", "quotas"),
    [
        (6, [5, 1, 10], [2, 1, 3]),  # 1 of 6 // 3 = 2; 5 // 2 = 2; 3
        (3, [4, 4, 4, 4], [0, 1, 1, 1]),
        (16, [5, 1, 10], [5, 1, 10]),
        (0, [5, 1], [0, 0]),
        (9, [9], [9]),
    ],
)
def test_smallest_first(budget: int, sizes: list[int], quotas: list[int]) -> None:
    assert evenly(budget, np.array(sizes)).tolist() == quotas


@pytest.mark.parametrize(
    ("budget", "quotas"),
    [(5, [0, 0, 2, 3]), (7, [0, 0, 3, 4]), (8, [1, 0, 3, 4]), (9, [1, 1, 3, 4]), (10, [2, 1, 3, 4])],
)
def test_clusters_of_two_only_fill_up(budget: int, quotas: list[int]) -> None:
    assert evenly_but_small(budget, np.array([2, 1, 3, 4])).tolist() == quotas


@pytest.mark.parametrize("paths", [[1.0, 2.0, 3.0], [[1.0], [2.0], [3.0]]])
@pytest.mark.parametrize("inside", ["stable", "random"])
def test_one_checkpoint_is_no_trajectory(paths: Any, inside: Any) -> None:
    with pytest.raises(UsageError, match=r"'trajectory' is one number per sample, .* at least 2.*--snapshots 7"):
        select(make_table({"trajectory": paths}), Trajectories(inside=inside), 1)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.data())
def test_quotas_add_up(sizes: list[int], data: Any) -> None:
    budget = data.draw(st.integers(0, sum(sizes)))
    quotas = evenly_but_small(budget, np.array(sizes))
    assert quotas.sum() == budget
    assert (quotas >= 0).all()
    assert (quotas <= sizes).all()


@pytest.mark.parametrize(
    ("budget", "ids"),
    [
        (1, ["s4"]),
        (2, ["s4", "s1"]),
        (4, ["s4", "s1", "s2", "s3"]),
        (6, ["s4", "s1", "s2", "s0", "s3", "s6"]),
        (7, ["s4", "s1", "s2", "s0", "s3", "s6", "s5"]),
    ],
)
def test_the_steadiest_of_each_cluster(budget: int, ids: list[str]) -> None:
    rows = candidates({"trajectory": PATHS})
    choice = Trajectories(clusters=2)(rows, budget)
    assert rows.ids(choice.kept).to_pylist() == ids
    assert choice.details["clusters_found"] == 2


def test_random_rows_of_each_cluster() -> None:
    table = make_table({"trajectory": PATHS})
    draws = [set(select(table, Trajectories(inside="random", clusters=2), 2, seed=seed).ids) for seed in range(60)]
    assert {key for ids in draws for key in ids} == {f"s{row}" for row in range(7)}
    assert all(len(ids & {"s0", "s1", "s2"}) == 1 for ids in draws)


def test_sources_come_before_clusters() -> None:
    """Source a has 5 rows in two clusters, b 2 in two: b is smaller and takes 4 // 2 = 2, though it only fills up."""
    source = ["a", "b", "a", "a", "a", "b", "a"]
    rows = candidates({"trajectory": PATHS}, source=source)
    choice = Trajectories(clusters=2, balance="source")(rows, 4)
    assert [source[place] for place in choice.kept].count("b") == 2
    assert set(choice.kept.tolist()) == {1, 5, 4, 3}  # of a: its cluster of 3 before that of 2
    assert set(choice.groups.to_pylist()) == {f"{name} / cluster {code}" for name in "ab" for code in (0, 1)}
    plain = Trajectories(clusters=2)(rows, 4)
    assert set(plain.kept.tolist()) == {4, 1, 2, 3}


def test_each_source_is_clustered_for_itself() -> None:
    """Losses of source a fall from 1 or from 2, of b from 50 or from 52: over the whole pool, two clusters are a and b.

    Inside each source they are the two starts; a's, of 5 and 3 rows, get 1 and 3 of its 4, smallest first 2 and 2.
    """
    starts = [1.0] * 5 + [2.0] * 3 + [50.0] * 5 + [52.0] * 4
    rows = candidates({"trajectory": [[start, start / 10] for start in starts]}, source=["a"] * 8 + ["b"] * 9)
    choice = Trajectories(inside="random", clusters=2, balance="source")(rows, 8)
    groups = np.array(choice.groups.to_pylist())
    assert [len(set(groups[part])) for part in (slice(0, 5), slice(5, 8), slice(8, 13), slice(13, 17))] == [1, 1, 1, 1]
    assert len(set(groups)) == choice.details["clusters_found"] == 4
    kept = [starts[place] for place in choice.kept]
    assert [kept.count(start) for start in (1.0, 2.0, 50.0, 52.0)] == [2, 2, 2, 2]


def test_a_source_has_as_many_clusters_as_it_bears(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def spy(vectors: Any, wanted: int, seed: int, *, spherical: bool) -> Any:
        asked.append((len(vectors), wanted))
        return np.zeros(len(vectors), np.int64)

    monkeypatch.setattr(trajectories, "k_means", spy)
    source = ["small"] * 50 + ["large"] * 300
    Trajectories(inside="random", balance="source")(candidates({"trajectory": np.zeros((350, 2))}, source=source), 3)
    assert sorted(asked) == [(50, 5), (300, 100)]


def test_text_only_rows_as_one_cluster_get_as_much_as_a_cluster() -> None:
    """Two clusters of images (3 and 4) and 12 text-only rows: of 9 they get 3, 3 and 3, where their rate gives 5 or 6.

    The last cluster visited gets all that is left; with fewer of them than of clusters, text gets next to nothing.
    """
    table = make_table({"trajectory": [*PATHS, *[[np.nan] * 3] * 12]}, images=[1] * 7 + [0] * 12)
    drawn = set()
    for seed in range(12):
        chosen = select(table, Trajectories(clusters=2, text="cluster"), 9, seed=seed)
        text = [key for key in chosen.ids if int(key[1:]) >= 7]
        assert len(text) == 3
        assert set(chosen.ids) - set(text) == {"s0", "s1", "s2", "s3", "s4", "s6"}
        drawn.update(text)
    assert len(drawn) > 6, "text is drawn, nothing ranks it"
    assert "in group 'text-only', the group keeps 3" in chosen.dropped[(drawn - set(text)).pop()]
    assert chosen.made_by["strata"][0]["clusters_found"] == 3
    apart = select(table, Trajectories(clusters=2), 9)
    assert sum(int(key[1:]) >= 7 for key in apart.ids) == 6
    assert sum(int(key[1:]) >= 7 for key in select(table, Trajectories(text="cluster"), 14, text_only="keep").ids) == 12
    assert sum(int(key[1:]) >= 7 for key in select(table, Trajectories(text="cluster"), 5, text_only="drop").ids) == 0


def test_text_is_a_cluster_of_its_source() -> None:
    source = ["a"] * 3 + ["b"] * 4 + ["b"] * 5
    table = make_table(
        {"trajectory": [*PATHS, *[[1.0] * 3] * 5]}, images=[1] * 7 + [0] * 5, source=source
    )  # their loss is known, and plays no part
    chosen = select(table, Trajectories(inside="random", clusters=1, balance="source", text="cluster"), 6)
    groups = chosen.decisions["group"].to_pylist()
    assert groups == ["a / cluster 0"] * 3 + ["b / cluster 0"] * 4 + ["b / text-only"] * 5
    assert sorted(groups[int(key[1:])] for key in chosen.ids).count("b / text-only") == 2  # of b's 3, its cluster has 1


def test_scale_lets_a_small_checkpoint_count() -> None:
    """The first checkpoint is spread evenly, the second falls in two, but is ten times smaller."""
    paths = [[10 * step, half] for step in range(4) for half in (0, 1)]
    rows = candidates({"trajectory": paths})
    plain, scaled = (Trajectories(clusters=2, scale=scale)(rows, 8).groups.to_pylist() for scale in (False, True))
    assert plain == [plain[0]] * 4 + [plain[4]] * 4
    assert scaled == [scaled[0], scaled[1]] * 4
    assert plain[0] != plain[4]
    assert scaled[0] != scaled[1]


@pytest.mark.parametrize(
    ("count", "how", "clusters"),
    [
        (50, {}, 5),
        (50, {"inside": "random"}, 5),
        (50, {"clusters": 7}, 7),
        (299, {"inside": "random"}, 12),
        (300, {"inside": "random"}, 100),
        (10_000, {"inside": "random"}, 100),
        (99_999, {}, 224),
        (100_000, {}, 1000),
    ],
)
def test_the_published_number_where_the_pool_bears_it(
    monkeypatch: pytest.MonkeyPatch, count: int, how: dict[str, Any], clusters: int
) -> None:
    asked = []

    def spy(vectors: Any, wanted: int, seed: int, *, spherical: bool) -> Any:
        asked.append((wanted, seed, spherical))
        return np.arange(len(vectors)) % 3

    monkeypatch.setattr(trajectories, "k_means", spy)
    Trajectories(**how)(candidates({"trajectory": np.zeros((count, 2))}, seed=5), 3)
    assert asked == [(clusters, 5, False)]


def by_the_book(paths: np.ndarray, codes: np.ndarray, budget: int) -> set[int]:
    """The selection as the papers tell it, row by row, with the rows of tiny clusters at the end."""
    clusters = [list(np.flatnonzero(codes == code)) for code in range(codes.max() + 1)]
    chosen: set[int] = set()
    for tiny in (False, True):
        queue = sorted((rows for rows in clusters if (len(rows) <= 2) == tiny), key=len)
        while queue:
            rows = queue[0]
            quota = (budget - len(chosen)) // len(queue)
            moves = [sum(abs(paths[row][j] - paths[row][j - 1]) for j in range(1, len(paths[row]))) for row in rows]
            chosen |= {row for _, row in sorted(zip(moves, rows, strict=True))[:quota]}
            queue = queue[1:]
    return chosen


@pytest.mark.parametrize("budget", [1, 7, 30, 55, 60])
def test_the_whole_against_a_loop(budget: int) -> None:
    paths = np.random.default_rng(3).normal(size=(60, 4)).cumsum(axis=1).astype(np.float32)
    choice = Trajectories("p", clusters=12)(candidates({"p": paths}), budget)
    assert set(choice.kept.tolist()) == by_the_book(paths, k_means(paths, 12, spherical=False), budget)


def test_an_undefined_checkpoint_rules_a_row_out() -> None:
    table = make_table({"trajectory": [*PATHS, [1, np.nan, 2], [np.nan] * 3]}, images=[1] * 8 + [0])
    chosen = select(table, Trajectories(clusters=2), 8)
    assert dict(chosen.dropped) == {"s7": "trajectory is undefined"}
