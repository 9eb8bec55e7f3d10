"""Hooks on single modules: they go when the first pass is over, and a module that did not run is named."""

from __future__ import annotations

from typing import Any

import pytest

from tests.models.helpers import batch_of, varied
from vlmsift.errors import UnsupportedModel
from vlmsift.models import open_model
from vlmsift.passes.capture import Capture
from vlmsift.passes.measure import measure
from vlmsift.passes.spectrum import ReleasedSpectrum
from vlmsift.passes.states import AttentionOutputs, LastState
from vlmsift.specs import ModelSpec

NEEDS: list[Any] = [AttentionOutputs(), AttentionOutputs(2), LastState(), ReleasedSpectrum()]


def test_no_hook_stays_behind_also_after_a_fault(toy_path):
    adapter = open_model(ModelSpec(toy_path("llava"), device="cpu", dtype="float32"))
    batch = batch_of(adapter, varied("llava")[:1])

    def hooks() -> int:
        return sum(len(module._forward_hooks) for module in adapter.model.modules())

    with Capture(adapter) as capture:
        measure(capture, batch, [])  # transformers itself hooks vision towers at their first call
        before = hooks()
        measure(capture, batch, NEEDS)
        assert hooks() == before
        adapter.layers[2].mlp.forward = lambda states: 1 / 0
        with pytest.raises(ZeroDivisionError):
            measure(capture, batch, NEEDS)
    assert hooks() == before


def test_a_module_that_is_missing_or_bypassed_is_named(toy_path):
    adapter = open_model(ModelSpec(toy_path("llava"), device="cpu", dtype="float32"))
    layer: Any = adapter.layers[1]
    batch = batch_of(adapter, varied("llava")[:1])
    own = layer.self_attn.forward
    layer.self_attn.forward = lambda hidden_states, **kwargs: (hidden_states, None)
    with Capture(adapter) as capture:
        with pytest.raises(UnsupportedModel, match=r"does not run the modules \['1'\]"):
            measure(capture, batch, [AttentionOutputs()])
        layer.self_attn.forward = own
        layer.self_attn.wo = layer.self_attn.o_proj
        del layer.self_attn.o_proj
        with pytest.raises(UnsupportedModel, match=r"text layer 1 .* has 0 modules called 'o_proj'"):
            measure(capture, batch, [AttentionOutputs()])
