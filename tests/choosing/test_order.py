"""An order that depends on ids and seed alone; no id twice."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from vlmsift.choosing import order
from vlmsift.choosing.columns import Columns
from vlmsift.choosing.order import seeded_order
from vlmsift.choosing.run_columns import open_columns
from vlmsift.errors import UsageError


def columns(ids: list[str]) -> Columns:
    return open_columns(pa.table({"id": ids}), [])


def test_the_order_is_of_the_ids_not_of_the_pool() -> None:
    ids = [f"s{row}" for row in range(1000)]
    found = seeded_order(columns(ids), 7)
    shuffled = np.random.default_rng(0).permutation(1000)
    again = seeded_order(columns([ids[row] for row in shuffled]), 7)
    assert sorted(found) == list(range(1000))
    assert shuffled[again].tolist() == found.tolist()
    assert seeded_order(columns(ids), 8).tolist() != found.tolist()
    assert abs(np.corrcoef(found, np.arange(1000))[0, 1]) < 0.1


def test_the_order_is_the_same_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = ["a", "b", "c", "d", "é"]
    assert seeded_order(columns(ids), 1).tolist() == [0, 3, 4, 2, 1]
    monkeypatch.setattr("vlmsift.choosing.run_columns._PIECE", 2)
    assert seeded_order(columns(ids), 1).tolist() == [0, 3, 4, 2, 1]


def test_ids_are_unique(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlmsift.choosing.run_columns._PIECE", 2)
    with pytest.raises(UsageError, match="'b' occurs more than once"):
        seeded_order(columns(["a", "b", "c", "b", "d"]), 0)


def test_two_ids_of_one_hash_are_two_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "_hashes", lambda columns, seed: np.array([9, 1, 9, 9, 0], np.uint64))
    assert seeded_order(columns(["a", "b", "c", "d", "e"]), 0).tolist() == [4, 1, 0, 2, 3]
    with pytest.raises(UsageError, match="'d' occurs more than once"):
        seeded_order(columns(["a", "b", "d", "d", "e"]), 0)
