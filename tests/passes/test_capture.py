"""Looking inside leaves no trace: weights, attention, flags, hooks and caches are as before, whatever goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

from tests.models.helpers import batch_of, opened, varied
from tests.toys import MECHANISMS as FAMILIES
from vlmsift.check import weights_digest
from vlmsift.errors import UnsupportedModel
from vlmsift.models import Adapter, open_model
from vlmsift.passes import attention, interventions, loss
from vlmsift.passes import intervene as module
from vlmsift.passes.attention_received import AttentionReceived, ImageAttention
from vlmsift.passes.capture import Capture
from vlmsift.passes.intervene import OPEN, SCORING, attention_forward
from vlmsift.passes.interventions import BlindLoss, MaskedLoss
from vlmsift.passes.loss import Head
from vlmsift.passes.masking import Masking
from vlmsift.passes.measure import measure
from vlmsift.specs import ModelSpec

NEEDS = [
    ImageAttention(),
    AttentionReceived("all"),
    BlindLoss(),
    MaskedLoss(Masking(depth=0)),
    MaskedLoss(Masking(depth=-1, replace="drop")),
]


@pytest.fixture(params=FAMILIES)
def adapter(request: pytest.FixtureRequest, toy_path: Callable[[str], Path]) -> Adapter:
    return opened(toy_path(request.param))


def state(adapter: Adapter) -> dict[str, Any]:
    """Everything about a model that a pass could leave changed."""
    modules = dict(adapter.model.named_modules())
    configs = {name: m.config._attn_implementation for name, m in modules.items() if hasattr(m, "config")}
    return {
        "weights": weights_digest(adapter),
        "buffers": {name: buffer.clone().tolist() for name, buffer in adapter.model.named_buffers()},
        "attention": configs,
        "training": [name for name, m in modules.items() if m.training],
        "hooks": {name: (len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in modules.items()},
        "forward": [name for name, m in modules.items() if "forward" in vars(m)],
        "rope": {name: m.rope_deltas for name, m in modules.items() if hasattr(m, "rope_deltas")},
        "attributes": {name: sorted(vars(m)) for name, m in modules.items()},
        "interfaces": [sorted(AttentionInterface().keys()), sorted(AttentionMaskInterface().keys())],
        "watched": len(OPEN),
        "gradients": torch.is_grad_enabled(),
    }


def test_scoring_leaves_no_trace(adapter):
    batch = batch_of(adapter, varied(adapter.model.config.model_type)[2:])
    with torch.no_grad():
        adapter.model(**batch.inputs, use_cache=False)  # transformers itself hooks vision towers at their first call
    before = state(adapter)
    with Capture(adapter) as capture:
        assert adapter.text.config._attn_implementation == SCORING
        measure(capture, batch, NEEDS)
    assert state(adapter) == before
    assert len(OPEN) == 0


PLACES: dict[str, tuple[Any, str]] = {
    "first layer of attention": (attention, "visible_keys"),
    "observer": (attention.Rows, "where"),
    "model's own attention": (module, "sdpa_attention_forward"),
    "keys dropped": (module, "_changed_mask"),
    "choice of tokens": (interventions, "choose_tokens"),
    "re-run": (Capture, "resume"),
    "loss": (loss, "Tokens"),
}


class Fault(Exception):
    """Raised in the midst of a pass."""


@pytest.mark.parametrize("family", ["llava", "qwen3_vl", "gemma3"])
@pytest.mark.parametrize("place", PLACES)
def test_an_exception_inside_leaves_no_trace(place, family, toy_path, monkeypatch):
    adapter = opened(toy_path(family))
    batch = batch_of(adapter, varied(family)[:2], "left")
    with Capture(adapter) as capture:
        sound = measure(capture, batch, NEEDS)
    before = state(adapter)

    def fail(*positional: Any, **named: Any) -> None:
        raise Fault

    owner, name = PLACES[place]
    with monkeypatch.context() as patched:
        (patched.setitem if isinstance(owner, dict) else patched.setattr)(owner, name, fail)
        with pytest.raises(Fault), Capture(adapter) as capture:
            measure(capture, batch, NEEDS)
    assert state(adapter) == before
    with Capture(adapter) as capture:
        again = measure(capture, batch, NEEDS)
    assert all(torch.equal(sound[need], again[need]) for need in NEEDS)


def test_an_open_capture_goes_on_after_a_fault(toy_path, monkeypatch):
    """As a run does: one batch fails, the next is measured."""
    adapter = opened(toy_path("llava"))
    batch = batch_of(adapter, varied("llava")[:2])
    with Capture(adapter) as capture:
        sound = measure(capture, batch, NEEDS)
        for place in ("_changed_mask", "_all_visible"):
            with monkeypatch.context() as patched:
                patched.setattr(module, place, lambda *positional: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    measure(capture, batch, NEEDS)
            assert capture.observers == []
            assert capture.intervention is None
            again = measure(capture, batch, NEEDS)
            assert all(torch.equal(sound[need], again[need]) for need in NEEDS)


def test_train_mode_comes_back_module_by_module(toy_path):
    adapter = open_model(ModelSpec(toy_path("llava"), device="cpu", dtype="float32"))
    batch = batch_of(adapter, varied("llava")[:1])
    with Capture(adapter) as capture:
        sound = measure(capture, batch, NEEDS)
    adapter.text.train()
    adapter.layers[1].eval()
    adapter.layers[1].mlp.train()
    for layer in adapter.layers:
        layer.self_attn.attention_dropout = 0.5  # active in train mode only
    before = state(adapter)
    with Capture(adapter) as capture:
        assert not any(part.training for part in adapter.model.modules())
        found = measure(capture, batch, NEEDS)
    assert all(torch.equal(sound[need], found[need]) for need in NEEDS)
    assert state(adapter) == before


def test_another_attention_comes_back_and_changes_no_number(toy_path):
    adapter = open_model(ModelSpec(toy_path("qwen2_vl"), device="cpu", dtype="float32"))
    batch = batch_of(adapter, varied("qwen2_vl")[:3])
    with Capture(adapter) as capture:
        sound = measure(capture, batch, NEEDS)
    adapter.model.set_attn_implementation("eager")
    before = state(adapter)
    with Capture(adapter) as capture:
        assert adapter.model.config.vision_config._attn_implementation == "eager"
        found = measure(capture, batch, NEEDS)
    torch.testing.assert_close(found[Head()], sound[Head()], atol=1e-5, rtol=0)
    assert state(adapter) == before


def test_rope_deltas_of_a_generation_under_way_are_kept(toy_path):
    adapter = open_model(ModelSpec(toy_path("qwen2_5_vl"), device="cpu", dtype="float32"))
    kept = torch.tensor([[5], [7]])
    adapter.model.model.rope_deltas = kept
    with Capture(adapter) as capture:
        measure(capture, batch_of(adapter, varied("qwen2_5_vl")[:3]), [])
        assert adapter.model.model.rope_deltas is not kept
    assert adapter.model.model.rope_deltas is kept


def test_two_models_open_at_once_do_not_meet(toy_path):
    adapters = [opened(toy_path(family)) for family in ("llava", "qwen3_vl")]
    batches = [batch_of(a, varied("llava")[:2]) for a in adapters]
    apart = []
    for one, batch in zip(adapters, batches, strict=True):
        with Capture(one) as capture:
            apart.append(measure(capture, batch, NEEDS))
    with Capture(adapters[0]) as outer:
        with Capture(adapters[1]) as inner:
            together = [measure(outer, batches[0], NEEDS), measure(inner, batches[1], NEEDS)]
        after = measure(outer, batches[0], NEEDS)
    for found, alone in zip([*together, after], [*apart, apart[0]], strict=True):
        assert all(torch.equal(found[need], alone[need]) for need in NEEDS)


def test_the_same_model_opened_inside_itself_gives_the_outer_one_its_layers_back(toy_path):
    adapter = opened(toy_path("llava"))
    before = state(adapter)
    batch = batch_of(adapter, varied("llava")[:2])
    with Capture(adapter) as outer:
        alone = measure(outer, batch, NEEDS)
        with Capture(adapter) as inner:
            assert all(torch.equal(measure(inner, batch, NEEDS)[need], alone[need]) for need in NEEDS)
        assert all(torch.equal(measure(outer, batch, NEEDS)[need], alone[need]) for need in NEEDS)
    assert state(adapter) == before


def bypass(layer: Any) -> None:
    """A layer whose attention is computed without transformers' interface."""

    def forward(hidden_states: Tensor, **kwargs: Any) -> tuple[Tensor, None]:
        attention = layer.self_attn
        return attention.o_proj(attention.q_proj(hidden_states)), None

    layer.self_attn.forward = forward


@pytest.mark.parametrize(
    "need",
    [
        AttentionReceived("all"),
        ImageAttention(),
        MaskedLoss(Masking()),
        # nothing is read from layer 1 here, but keys would not be dropped in it
        MaskedLoss(Masking(depth=1, layers="below", replace="drop")),
        BlindLoss(),
    ],
    ids=["received", "image", "masked", "drop", "blind"],
)
def test_a_layer_that_bypasses_the_interface_is_named(need, toy_path):
    adapter = open_model(ModelSpec(toy_path("llava"), device="cpu", dtype="float32"))
    batch = batch_of(adapter, varied("llava")[:2])
    with Capture(adapter) as capture:
        measure(capture, batch, [need])
        bypass(adapter.layers[1])
        measure(capture, batch, [MaskedLoss(Masking(depth=1, layers="below"))])  # needs nothing of layer 1
        with pytest.raises(UnsupportedModel, match=r"layers \[1\] of 3 did not pass through .*AttentionInterface"):
            measure(capture, batch, [need])


def test_a_capture_that_is_not_open_measures_nothing_wrongly(toy_path):
    adapter = opened(toy_path("llava"))
    with pytest.raises(UnsupportedModel, match=r"layers \[0, 1, 2\]"):
        measure(Capture(adapter), batch_of(adapter, varied("llava")[:2]), [BlindLoss()])


def test_a_model_that_ignores_the_request_is_refused_on_entry(toy_path, monkeypatch):
    adapter = open_model(ModelSpec(toy_path("llava"), device="cpu", dtype="float32"))
    before = state(adapter)
    monkeypatch.setattr(type(adapter.model), "set_attn_implementation", lambda self, name: None)
    with pytest.raises(UnsupportedModel, match="does not let its text attention be replaced"), Capture(adapter):
        pass
    assert state(adapter) == before


@pytest.mark.parametrize("added", ["s_aux", "position_bias"])
def test_attention_that_is_not_modelled_is_refused(added, toy_path):
    query, key = torch.zeros(1, 4, 5, 8), torch.zeros(1, 2, 5, 8)
    with pytest.raises(UnsupportedModel, match=f"LlamaAttention gives its attention .*{added}"):
        attention_forward(
            opened(toy_path("llava")).layers[0].self_attn, query, key, key, None, **{added: torch.zeros(4)}
        )


def test_attention_to_other_things_than_the_text_is_refused(toy_path):
    adapter = opened(toy_path("llava"))
    query, key = torch.zeros(1, 4, 5, 16), torch.zeros(1, 2, 7, 16)
    with Capture(adapter), pytest.raises(UnsupportedModel, match="layer 2 attends to 7 keys from 5 positions"):
        attention_forward(adapter.layers[2].self_attn, query, key, key, None, scaling=1.0)


def test_without_a_capture_the_function_is_plain_attention(toy_path):
    adapter = open_model(ModelSpec(toy_path("llava"), device="cpu", dtype="float32"))
    batch = batch_of(adapter, varied("llava")[:2], "left")
    with torch.no_grad():
        own = adapter.backbone(batch, adapter.inputs(batch))
        adapter.model.set_attn_implementation({"text_config": SCORING})
        ours = adapter.backbone(batch, adapter.inputs(batch))
    assert torch.equal(ours, own)
