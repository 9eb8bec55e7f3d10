"""AttentionInfluence from given losses, and the word that names its heads."""

from __future__ import annotations

import pytest
import torch

from tests.models.helpers import hand_batch
from vlmsift.errors import UsageError
from vlmsift.passes.changed import UniformHeadsLoss
from vlmsift.signals.attention_influence import AttentionInfluence


def test_is_the_rise_as_a_share_of_the_loss_with_a_floor():
    signal = AttentionInfluence("0.1", floor=0.5)
    head, uniform = signal.needs
    losses = {head: torch.tensor([2.0, 1.0, 0.1]), uniform: torch.tensor([3.0, 0.5, 0.2])}
    found = signal(hand_batch("spa", "spa", "spa"), losses)
    torch.testing.assert_close(found, torch.tensor([0.5, -0.5, 0.2]))


def test_heads_are_read_sorted_and_once():
    signal = AttentionInfluence(" 12.3+2.10 + 12.3")
    assert signal.pairs() == ((2, 10), (12, 3))
    assert signal.needs[1] == UniformHeadsLoss(((2, 10), (12, 3)))
    assert AttentionInfluence().pairs() == ()


@pytest.mark.parametrize("heads", ["3", "1.2,3.4", "a.b", "-1.2", "1.2+3"])
def test_heads_that_cannot_be_read(heads):
    with pytest.raises(UsageError, match="is not a list of layer"):
        AttentionInfluence(heads)
