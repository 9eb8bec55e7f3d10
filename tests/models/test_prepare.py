"""A prepared sample gives the numbers of one that is not, bit by bit, and the model finds no positions itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.models.helpers import opened, picture, varied
from vlmsift.models import prepare_for
from vlmsift.models.prepare import POSITIONS
from vlmsift.passes.capture import Capture
from vlmsift.passes.measure import measure
from vlmsift.signals import build_signals

COUNTED = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "glm4v"]  # families that count time, height and width


@pytest.mark.parametrize("family", [*COUNTED, "llava", "paligemma"])
@pytest.mark.parametrize("which", [slice(None), slice(6, 7)], ids=["all", "text alone"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_numbers_are_the_same(
    family: str, which: slice, side: str, toy_path: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = opened(toy_path(family))
    encoder, prepare = adapter.encoder(picture), prepare_for(adapter)
    encoded = [encoder.encode(one) for one in varied(adapter.model.config.model_type)[which]]
    prepared = list(map(prepare, encoded))
    assert {POSITIONS in one.rows for one in prepared} == {family in COUNTED}
    needs = [need for one in build_signals(["delta_attnmask", "image_gain"]).values() for need in one.needs]
    batches = [encoder.collate(samples, side) for samples in (encoded, prepared)]
    with Capture(adapter) as capture:
        theirs = measure(capture, batches[0], needs)
        if family in COUNTED:
            monkeypatch.setattr(adapter.model.base_model, "compute_3d_position_ids", None)
        ours = measure(capture, batches[1], needs)
    assert theirs.keys() == ours.keys()
    for need, value in theirs.items():
        torch.testing.assert_close(ours[need], value, rtol=0, atol=0, equal_nan=True)


def test_numbers_are_rounded_as_the_adapter_rounds_them(toy_path: Callable[[str], Path]) -> None:
    adapter = opened(toy_path("qwen2_5_vl"))
    adapter.model.to(torch.bfloat16)
    encoder, prepare = adapter.encoder(picture), prepare_for(adapter)
    encoded = [encoder.encode(one) for one in varied("qwen2_5_vl")]
    ours, theirs = (adapter.inputs(encoder.collate(samples)) for samples in (list(map(prepare, encoded)), encoded))
    assert prepare(encoded[0]).images["pixel_values"].dtype == torch.bfloat16
    for name, value in theirs.items():
        assert torch.equal(ours[name], value)


def test_what_prepares_holds_no_weights(toy_path: Callable[[str], Path]) -> None:
    finder = prepare_for(opened(toy_path("qwen3_vl"))).finder
    assert not list(finder.parameters())
    assert not list(finder.modules())[1:]


def test_a_model_that_needs_more_than_its_configuration_finds_positions_itself(toy_path: Callable[[str], Path]) -> None:
    adapter = opened(toy_path("qwen2_vl"))
    encoder, prepare = adapter.encoder(picture), prepare_for(adapter)
    del prepare.finder.config
    assert POSITIONS not in prepare(encoder.encode(varied("qwen2_vl")[0])).rows
