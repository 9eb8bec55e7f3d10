"""Mass and entropy come from one measurement and are not mixed up: here the mass."""

from __future__ import annotations

import torch

from tests.models.helpers import hand_batch
from vlmsift.passes.attention_received import ImageAttention as OnImage
from vlmsift.signals.image_attention import ImageAttention


def test_is_the_mass():
    mass_and_entropy = torch.tensor([[0.25, 0.75]])
    assert ImageAttention().needs == (OnImage(),)
    assert ImageAttention()(hand_batch("siipa"), {OnImage(): mass_and_entropy}).tolist() == [0.25]
