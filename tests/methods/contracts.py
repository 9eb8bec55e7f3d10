"""What holds for every method, whatever it measures: each a function of a method's name and a bench.

What holds for every selector is in tests/selectors/test_contracts.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.methods.samples import TEXT, TWIN, Bench


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


def nothing_to_measure(name: str, bench: Bench) -> None:
    """Where no row has the signals but a text-only one, that row is drawn, and no other pool is needed."""
    assert bench.chosen(name, 1, [ROW_OF_TEXT]) == [TEXT]


ROW_OF_TEXT = 20
DRAWS = ("random", "full", "s2l")
CONTRACTS: tuple[Callable[[str, Bench], None], ...] = (
    order_of_the_pool_plays_no_part,
    batches_play_no_part,
    a_seed_decides,
    nothing_to_measure,
)
