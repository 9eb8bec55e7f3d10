"""The last state as a unit vector, narrowed where asked for."""

from __future__ import annotations

import torch

from tests.models.helpers import hand_batch
from vlmsift.passes.states import LastState as Last
from vlmsift.signals.last_state import LastState

WIDE = torch.randn(20, 300, generator=torch.Generator().manual_seed(0))
BATCH = hand_batch(*["spa"] * 20)


def test_is_the_state_at_unit_norm():
    found = LastState()(BATCH, {Last(): WIDE})
    torch.testing.assert_close(found, WIDE / WIDE.norm(dim=1, keepdim=True))
    assert LastState().width(300, 3) == 300


def test_the_projection_is_seeded():
    narrow = LastState(dimensions=7)(BATCH, {Last(): WIDE})
    assert narrow.shape == (20, 7) == (20, LastState(dimensions=7).width(300, 3))
    torch.testing.assert_close(narrow.norm(dim=1), torch.ones(20))
    assert torch.equal(narrow, LastState(dimensions=7)(BATCH, {Last(): WIDE}))
    assert not torch.equal(narrow, LastState(dimensions=7, seed=1)(BATCH, {Last(): WIDE}))
