"""Batches under a budget, of like lengths, at the least cost there is; windows that the samples alone decide."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vlmsift.models import Encoded
from vlmsift.scoring import batches as batches_module
from vlmsift.scoring.batches import read_window
from vlmsift.scoring.feed import Item
from vlmsift.scoring.packing import FORWARD, MOST, pack

LENGTHS = st.lists(st.integers(1, 300), max_size=60)


@given(LENGTHS, st.integers(1, 900), st.integers(1, 9), st.integers(0, 300))
def test_batches_hold_each_place_once_within_the_budget(
    lengths: list[int], budget: int, most: int, forward: int
) -> None:
    batches = pack(lengths, budget, most, forward)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    assert [lengths[place] for batch in batches for place in batch] == sorted(lengths, reverse=True)
    for batch in batches:
        longest = max(lengths[place] for place in batch)
        assert len(batch) == 1 or (longest * len(batch) <= budget and len(batch) <= most)
    assert batches == pack(list(lengths), budget, most, forward)


def price(lengths: list[int], batches: list[list[int]], forward: int) -> int:
    return sum(forward + len(batch) * max(lengths[place] for place in batch) for batch in batches)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=7), st.integers(1, 200), st.integers(1, 7), st.integers(0, 90))
def test_no_cut_costs_less(lengths: list[int], budget: int, most: int, forward: int) -> None:
    ordered = sorted(lengths, reverse=True)
    inner = (places for count in range(len(lengths)) for places in combinations(range(1, len(lengths)), count))
    cuts = ([list(range(*edge)) for edge in pairwise((0, *places, len(lengths)))] for places in inner)
    least = min(
        price(ordered, cut, forward)
        for cut in cuts
        if all(len(one) == 1 or (len(one) <= most and len(one) * ordered[one[0]] <= budget) for one in cut)
    )
    assert price(lengths, pack(lengths, budget, most, forward), forward) == least


@pytest.mark.parametrize(("gap", "batches"), [(FORWARD // 8 + 1, [8, 8]), (FORWARD // 8 - 1, [16])])
def test_a_batch_ends_where_padding_costs_more_than_a_forward(gap: int, batches: list[int]) -> None:
    lengths = [20] * 8 + [20 + gap] * 8
    assert [len(batch) for batch in pack(lengths, 8192)] == batches


def test_a_batch_holds_so_many_samples_and_no_more() -> None:
    assert [len(batch) for batch in pack([1] * (2 * MOST + 1), 8192)].count(MOST) == 2


def item(index: int, count: int) -> Item:
    tokens = torch.zeros(count, dtype=torch.int64)
    return Item(index, {}, Encoded(str(index), tokens, tokens, tokens), None)


def test_a_window_ends_at_its_part_its_samples_or_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "WINDOW", 10)
    monkeypatch.setattr(batches_module, "WINDOW_BYTES", 100 * 3 * 8)
    long = [item(place, 40) for place in range(20)]
    short = [item(place, 1) for place in range(20)]
    bad = [Item(place, {}, None, "why") for place in range(20)]
    sizes = [len(read_window(iter(items), most)) for items in (long, short, bad) for most in (20, 2)]
    assert sizes == [3, 2, 10, 2, 10, 2]
    again = [read_window(iter(long[place:]), 20 - place) for place in range(0, 18, 3)]
    assert [one[0].index for one in again] == np.arange(0, 18, 3).tolist()
