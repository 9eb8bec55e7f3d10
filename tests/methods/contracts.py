"""What holds for every method, whatever it measures: each a function of a method's name and a bench."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.methods.samples import BROKEN, TEXT, TWIN, Bench
from vlmsift.errors import UsageError
from vlmsift.methods import METHODS


def exact_budget(name: str, bench: Bench) -> None:
    """Any budget is met exactly, and a larger one than there are usable rows is refused."""
    usable = len(bench.rows) - 1
    for keep, due in ((1, 1), ("5%", 1), ("33%", 7), (usable - 1, usable - 1), (usable, usable)):
        kept = bench.chosen(name, keep)
        assert len(set(kept)) == len(kept) == due
        assert BROKEN not in kept
    with pytest.raises(UsageError, match="only 22 of 23 rows can be chosen"):
        bench.chosen(name, "100%")


def text_only_by_the_policy(name: str, bench: Bench) -> None:
    """Text-only rows are kept or dropped as asked, whether or not the signals are defined for them."""
    assert TEXT in bench.chosen(name, 5, text_only="keep")
    assert TEXT not in bench.chosen(name, 20, text_only="drop")


def order_of_the_pool_plays_no_part(name: str, bench: Bench) -> None:
    """A shuffled pool gives the same ids in the same order."""
    order = np.random.default_rng(5).permutation(len(bench.rows)).tolist()
    for keep in (3, 9, 15):
        assert bench.chosen(name, keep, order) == bench.chosen(name, keep)


def batches_play_no_part(name: str, bench: Bench) -> None:
    """Alone, or padded beside others, a sample is ranked alike; of twins, rounding may let either lead."""
    twin = {TWIN: bench.rows[1]["id"]}
    for keep in (3, 9, 15):
        alone, beside = bench.chosen(name, keep, tokens_per_batch=64), bench.chosen(name, keep)
        assert sorted(twin.get(one, one) for one in alone) == sorted(twin.get(one, one) for one in beside)


def a_seed_decides(name: str, bench: Bench) -> None:
    """The same seed keeps the same, though all is measured anew; where chance draws, another keeps others."""
    kept = bench.chosen(name, 9, seed=7)
    assert bench.chosen(name, 9, seed=7, time=2) == kept
    if name in DRAWS:
        assert set(bench.chosen(name, 9, seed=8)) != set(kept)


def one_sample(name: str, bench: Bench) -> None:
    """A pool of one keeps it: fewer rows than clusters, no neighbour, no spread."""
    assert bench.chosen(name, 1, [2]) == [bench.rows[2]["id"]]


def two_identical_samples(name: str, bench: Bench) -> None:
    """One of two identical samples is kept, and a seed says which; both fit a budget of two."""
    twins, pair = [1, len(bench.rows) - 1], {TWIN, bench.rows[1]["id"]}
    kept = [bench.chosen(name, 1, twins, seed=seed) for seed in range(8)]
    assert {one for (one,) in kept} == pair
    assert set(bench.chosen(name, 2, twins)) == pair


def nothing_to_measure(name: str, bench: Bench) -> None:
    """Where no row has the signals but a text-only one, that row is drawn, and no other pool is needed."""
    assert bench.chosen(name, 1, [ROW_OF_TEXT]) == [TEXT]


def clean_is_for_judges(name: str, bench: Bench) -> None:
    """keep="clean" keeps what a budget of that size keeps, text included, or says that the method does not judge."""
    if METHODS[name].build_selector().name not in ("mixture", "random"):
        with pytest.raises(UsageError, match="keep='clean'"):
            bench.chosen(name, "clean")
        assert METHODS[name].keep != "clean"
        return
    kept = bench.chosen(name, "clean")
    assert TEXT in kept
    assert BROKEN not in kept
    judged = [one for one in kept if one != TEXT]
    assert set(bench.chosen(name, len(judged), text_only="drop")) == set(judged)
    assert name not in TAKE_ALL or len(kept) == len(bench.rows) - 1


ROW_OF_TEXT = 20
DRAWS = ("random", "full", "s2l")
TAKE_ALL = ("random", "full")
CONTRACTS: tuple[Callable[[str, Bench], None], ...] = (
    exact_budget,
    text_only_by_the_policy,
    order_of_the_pool_plays_no_part,
    batches_play_no_part,
    a_seed_decides,
    one_sample,
    two_identical_samples,
    nothing_to_measure,
    clean_is_for_judges,
)
