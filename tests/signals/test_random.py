"""Chance: from the id and the seed alone, and even."""

from __future__ import annotations

import pytest
import torch

from tests.models.helpers import hand_batch
from vlmsift.signals.random import Random


def drawn(*ids: str, seed: int = 0) -> torch.Tensor:
    return Random(seed)(hand_batch(*["spa"] * len(ids), ids=ids), {})


def test_depends_on_id_and_seed_and_not_on_the_batch():
    together = drawn("a", "b", "c")
    assert together.tolist() == [drawn(name).item() for name in "abc"]
    assert len(set(together.tolist())) == 3
    assert drawn("a", seed=1) != drawn("a")
    assert drawn("sample-1").item() == pytest.approx(0.8097773790359497), "the same on every machine"


def test_is_even_between_zero_and_one():
    values = drawn(*map(str, range(500)))
    assert values.min() >= 0
    assert values.max() < 1
    assert abs(values.mean() - 0.5) < 0.05
    assert abs(values.std() - 12**-0.5) < 0.03
