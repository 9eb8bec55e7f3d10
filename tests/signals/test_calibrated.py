"""Signals joined by weights: the numbers, what is undefined, and that a run records all of it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from tests.models.helpers import batch_of, opened, varied
from vlmsift.passes.capture import Capture
from vlmsift.passes.interventions import BlindLoss, MaskedLoss
from vlmsift.passes.loss import Head
from vlmsift.passes.measure import measure
from vlmsift.signals import build_signals
from vlmsift.signals.answer_loss import AnswerLoss
from vlmsift.signals.answer_tokens import AnswerTokens
from vlmsift.signals.calibrated import FLOOR, Calibrated, Part
from vlmsift.signals.delta_attnmask import DeltaAttnMask
from vlmsift.signals.image_gain import ImageGain
from vlmsift.types import Signal

LOSS = Part("answer_loss", AnswerLoss(), 1.0, 2.0, -3.0)
DELTA = Part("delta_attnmask:depth=0", DeltaAttnMask(depth=0), 0.5, 0.1, 0.2)
GAIN = Part("image_gain", ImageGain(), 0.0, 1.0, 1.0)


class Fixed:
    """A signal of fixed values."""

    needs = ()

    def __init__(self, *values: float) -> None:
        self.values = torch.tensor(values)

    def __call__(self, batch: Any, measured: Any) -> torch.Tensor:
        return self.values


def test_the_value_is_the_weighted_sum_of_standardised_parts():
    parts = (Part("a", Fixed(1.0, 5.0), 1.0, 2.0, -3.0), Part("b", Fixed(0.5, 0.7), 0.5, 0.1, 0.2))
    found = Calibrated(parts, 0.25)(None, {})
    assert found.tolist() == pytest.approx([0.25, 0.25 - 3 * 2 + 0.2 * 2])
    assert found.dtype == torch.float32


def test_a_logged_part_takes_the_logarithm_above_a_floor():
    part = Part("a", Fixed(math.e, 1.0, 0.0, -5.0, math.nan), 0.0, 1.0, 1.0, log=True)
    found = Calibrated((part,))(None, {})
    assert found[:4].tolist() == pytest.approx([1.0, 0.0, math.log(FLOOR), math.log(FLOOR)])
    assert found[4].isnan()


def test_an_undefined_part_adds_nothing_and_all_undefined_is_undefined():
    parts = (
        Part("a", Fixed(3.0, math.nan, math.nan), 1.0, 1.0, 1.0),
        Part("b", Fixed(math.nan, 4.0, math.nan), 2.0, 1.0, 1.0),
    )
    found = Calibrated(parts, 0.5)(None, {})
    assert found[:2].tolist() == [2.5, 2.5]
    assert found[2].isnan()


def test_its_needs_are_the_union_of_its_parts_needs():
    signal = Calibrated((LOSS, DELTA, GAIN))
    kinds = [type(need) for need in signal.needs]
    assert kinds == [Head, MaskedLoss, BlindLoss]
    assert isinstance(signal, Signal)
    assert hash(signal) == hash(Calibrated((LOSS, DELTA, GAIN)))


def test_parameters_hold_the_parts_and_their_settings():
    told = json.loads(json.dumps(Calibrated((LOSS, DELTA), 0.5).parameters()))
    assert told["intercept"] == 0.5
    assert [part["word"] for part in told["parts"]] == ["answer_loss", "delta_attnmask:depth=0"]
    assert told["parts"][1]["signal"]["depth"] == 0
    assert told["parts"][1]["weight"] == 0.2
    other = Part(LOSS.word, LOSS.signal, 1.0, 2.0, -3.1)
    assert Calibrated((other, DELTA), 0.5).parameters() != Calibrated((LOSS, DELTA), 0.5).parameters()


def test_on_a_model_it_is_what_its_parts_give(toy_path):
    adapter = opened(toy_path("llava"))
    batch = batch_of(adapter, varied("llava"))
    signal = Calibrated((LOSS, DELTA, Part("answer_tokens", AnswerTokens(), 4.0, 3.0, 0.5)), -1.0)
    with Capture(adapter) as capture:
        found = measure(capture, batch, signal.needs)
        values = signal(batch, found)
        single = [build_signals([part.word]).popitem()[1](batch, found) for part in signal.parts]
    expected = -1.0 - 3 * (single[0] - 1) / 2 + (0.2 * (single[1] - 0.5) / 0.1).nan_to_num() + 0.5 * (single[2] - 4) / 3
    torch.testing.assert_close(values, expected, atol=1e-5, rtol=1e-5)
    assert single[1].isnan().any()
    assert not values.isnan().any()
