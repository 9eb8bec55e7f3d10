"""IFD from given losses."""

from __future__ import annotations

import math

import pytest
import torch

from tests.models.helpers import hand_batch
from vlmsift.errors import UsageError
from vlmsift.passes.interventions import UnpromptedLoss
from vlmsift.signals.ifd import Ifd


def test_is_the_loss_as_a_share_of_that_without_the_prompt():
    head, without = Ifd().needs
    losses = {head: torch.tensor([1.0, 3.0, 1.0, 1.0]), without: torch.tensor([4.0, 2.0, 0.0, math.nan])}
    found = Ifd()(hand_batch(*["spa"] * 4), losses).tolist()
    assert found == [0.25, 1.5, pytest.approx(math.nan, nan_ok=True), pytest.approx(math.nan, nan_ok=True)]


def test_the_image_is_dropped_or_seen():
    assert Ifd().needs[1] == UnpromptedLoss("dropped")
    assert Ifd(image="seen").needs[1] == UnpromptedLoss("seen")
    with pytest.raises(UsageError, match=r"ifd: image='blank' cannot be meant.*dropped, seen"):
        Ifd(image="blank")
