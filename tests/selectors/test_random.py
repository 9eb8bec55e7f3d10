"""The uniform draw."""

from __future__ import annotations

from collections import Counter

from tests.sample_runs import make_table
from tests.selectors.parts import candidates
from vlmsift.selecting import select
from vlmsift.selectors import Random


def test_every_row_is_as_likely() -> None:
    table = make_table({"loss": range(10)})
    drawn = Counter(key for seed in range(200) for key in select(table, Random(), 3, seed=seed).ids)
    # 60 expected of each, standard deviation sqrt(200 * 0.3 * 0.7) = 6.5
    assert all(abs(count - 60) < 30 for count in drawn.values())
    assert len(drawn) == 10


def test_all_survive() -> None:
    assert Random().survivors(candidates({"loss": range(7)})) == 7
    nan = float("nan")
    assert len(select(make_table({"loss": [1, nan, nan]}, images=[1, 1, 0]), Random(), "clean").ids) == 3


def test_a_smaller_draw_is_part_of_a_larger_one() -> None:
    table = make_table({"loss": range(50)})
    few, many = (select(table, Random(), count, seed=5).ids for count in (10, 30))
    assert many[:10] == few
