"""The image's gain from given losses."""

from __future__ import annotations

import math

import torch

from tests.models.helpers import hand_batch
from vlmsift.signals.image_gain import ImageGain


def test_is_the_loss_without_the_image_minus_the_loss_with_it():
    head, blind = ImageGain().needs
    given = {head: torch.tensor([1.0, 2.0, 3.0]), blind: torch.tensor([1.5, 1.0, math.nan])}
    found = ImageGain()(hand_batch("siipa", "siipa", "spppa"), given)
    assert found[:2].tolist() == [0.5, -1.0]
    assert found[2].isnan()
