"""Delta-AttnMask from given losses: a difference, or a share of the loss."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from tests.models.helpers import hand_batch
from vlmsift.errors import UsageError
from vlmsift.passes.interventions import MaskedLoss
from vlmsift.passes.loss import Head
from vlmsift.passes.masking import Masking
from vlmsift.signals.delta_attnmask import DeltaAttnMask

BATCH = hand_batch("siipa", "siipa", "spppa")
LOSS = torch.tensor([2.0, 0.5, 1.0])
MASKED = torch.tensor([3.0, 0.25, math.nan])
MASKING = {"depth": 0.25, "ratio": 0.3, "eligible": "context", "rows": "all", "layers": "above", "replace": "noise"}
MASKING |= {"sinks": "keep", "choose": "bottom", "seed": 4, "heads": "max", "where": "every"}


def value(signal: DeltaAttnMask, loss: torch.Tensor = LOSS) -> list[float]:
    head, masked = signal.needs
    return signal(BATCH, {head: loss, masked: MASKED}).tolist()


def test_is_the_masked_loss_minus_the_loss():
    assert value(DeltaAttnMask()) == [1.0, -0.25, pytest.approx(math.nan, nan_ok=True)]


def test_relative_is_a_share_of_the_loss():
    assert value(DeltaAttnMask(relative=True)) == [0.5, -0.5, pytest.approx(math.nan, nan_ok=True)]
    assert (DeltaAttnMask().unit, DeltaAttnMask(relative=True).unit) == ("nats", "share of the loss")


def test_a_loss_of_zero_does_not_make_infinity():
    assert math.isfinite(value(DeltaAttnMask(relative=True), torch.zeros(3))[0])


def test_every_field_of_the_masking_reaches_the_pass():
    signal = DeltaAttnMask(**MASKING, relative=True)
    assert signal.needs == (Head(), MaskedLoss(Masking(**MASKING)))
    assert {field.name for field in dataclasses.fields(Masking)} == set(MASKING)


def test_relative_and_absolute_share_their_pass():
    assert DeltaAttnMask().needs == DeltaAttnMask(relative=True).needs


@pytest.mark.parametrize("field", ["eligible", "rows", "layers", "replace", "sinks", "choose", "heads", "where"])
def test_a_word_that_is_unknown(field):
    with pytest.raises(UsageError, match=f"delta_attnmask: {field}='some' cannot be meant"):
        DeltaAttnMask(**{field: "some"})
    with pytest.raises(UsageError, match="ratio=0 cannot be meant"):
        DeltaAttnMask(ratio=0)
