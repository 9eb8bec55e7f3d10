"""Pooled hidden states: a plain mean over prompt and image."""

from __future__ import annotations

import torch

from tests.models.helpers import hand_batch
from vlmsift.passes.hidden import pooled

STATES = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))


def test_the_mean_leaves_out_padding_and_answers():
    found = pooled(hand_batch("siipa.", ".spaap"), STATES)
    torch.testing.assert_close(found, torch.stack([STATES[0, :4].mean(0), STATES[1, [1, 2, 5]].mean(0)]))


def test_padding_and_neighbours_change_nothing():
    shifted = pooled(hand_batch("siipa"), STATES[:1, :5])
    together = pooled(hand_batch("siipa.", ".spaap"), STATES)[:1]
    torch.testing.assert_close(together, shifted, atol=1e-6, rtol=0)


def test_half_precision_is_pooled_in_float32():
    found = pooled(hand_batch("siipa.", ".spaap"), STATES.bfloat16())
    assert torch.equal(found, pooled(hand_batch("siipa.", ".spaap"), STATES.bfloat16().float()))
