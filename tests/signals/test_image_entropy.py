"""Mass and entropy come from one measurement and are not mixed up: here the entropy."""

from __future__ import annotations

import torch

from tests.models.helpers import hand_batch
from vlmsift.passes.attention_received import ImageAttention as OnImage
from vlmsift.signals.image_entropy import ImageEntropy


def test_is_the_entropy():
    mass_and_entropy = torch.tensor([[0.25, 0.75]])
    assert ImageEntropy().needs == (OnImage(),)
    assert ImageEntropy()(hand_batch("siipa"), {OnImage(): mass_and_entropy}).tolist() == [0.75]
