"""The order of samples: each once per epoch, full steps whatever the subset, modalities apart."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from vlmsift.train.order import Order


def order(count: int, batch: int, total: int, grouped: bool = True, seed: int = 0) -> Order:
    draw = random.Random(count)
    lengths = [draw.randint(5, 90) for _ in range(count)]
    return Order(lengths, [draw.random() < 0.7 for _ in range(count)], batch, total, seed, grouped)


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize(("count", "batch"), [(1, 4), (3, 4), (4, 4), (10, 4), (37, 8), (100, 7), (5, 16)])
def test_each_epoch_sees_every_sample_once(count, batch, grouped):
    given = list(order(count, batch, 3 * count, grouped))
    assert len(given) == 3 * count
    for epoch in range(3):
        assert sorted(given[epoch * count : (epoch + 1) * count]) == list(range(count)) or grouped
    assert Counter(given) == dict.fromkeys(range(count), 3)


@pytest.mark.parametrize("count", [1, 3, 8, 20, 61])
def test_every_step_is_full_but_the_last(count):
    steps = list(order(count, 8, 5 * count).steps())
    assert {len(step) for step in steps[:-1]} <= {8}
    assert sum(map(len, steps)) == 5 * count


def test_one_epoch_of_a_step_count_is_not_exceeded():
    given = list(order(10, 4, 24))
    counts = Counter(given)
    assert len(given) == 24
    assert set(counts.values()) <= {2, 3}, "the last, incomplete epoch gives no sample twice"


def test_a_grouped_step_holds_one_kind_except_where_remainders_meet():
    data = order(100, 8, 100)
    mixed = [len({data.has_image[place] for place in step}) > 1 for step in data.steps()]
    assert sum(mixed) <= 2
    assert len(mixed) == 13


def test_a_grouped_step_is_sorted_by_length_and_no_shorter_than_random():
    data = order(100, 8, 100)
    for step in data.steps():
        lengths = [data.lengths[place] for place in step]
        assert lengths == sorted(lengths, reverse=True)
    loose = [[data.lengths[place] for place in step] for step in order(100, 8, 100, grouped=False).steps()]
    assert any(lengths != sorted(lengths, reverse=True) for lengths in loose)


def test_the_seed_decides():
    assert list(order(30, 4, 60)) == list(order(30, 4, 60))
    assert list(order(30, 4, 60)) != list(order(30, 4, 60, seed=1))
    given = list(order(30, 4, 60))
    assert given[:28] != given[30:58], "epochs differ"
