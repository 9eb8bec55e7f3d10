"""Losses under changed attention: against the whole model in eager attention, and by what they must not depend on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

from tests.models.helpers import ask, batch_of, hand_batch, opened, varied
from tests.passes.test_capture import bypass
from tests.passes.test_measure import counted, eager_without_keys
from tests.toys import MECHANISMS as FAMILIES
from vlmsift.errors import UnsupportedModel, UsageError
from vlmsift.models import Adapter, open_model
from vlmsift.passes import attention
from vlmsift.passes.attention import visible_means
from vlmsift.passes.capture import Capture, set_text_attention
from vlmsift.passes.interventions import UniformHeadsLoss, UnpromptedLoss
from vlmsift.passes.loss import Head, head_means
from vlmsift.passes.measure import measure
from vlmsift.specs import ModelSpec
from vlmsift.types import Batch

CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 0, "equal_nan": True}
TWIN = "test_changed_twin"
HEADS = ((1, 0), (1, 3), (2, 2))


@pytest.fixture(params=FAMILIES)
def adapter(request: pytest.FixtureRequest, toy_path: Callable[[str], Path]) -> Adapter:
    return opened(toy_path(request.param))


def mixed(adapter: Adapter, side: str) -> Batch:
    return batch_of(adapter, varied(adapter.model.config.model_type)[4:], side)


def measured(adapter: Adapter, batch: Batch, *needs: Any) -> dict[Any, Tensor]:
    with Capture(adapter) as capture:
        return measure(capture, batch, needs)


def eager_with_uniform_heads(adapter: Adapter, batch: Batch, heads: tuple[tuple[int, int], ...]) -> Tensor:
    """The slow twin: the model's own eager attention; where its weights are not zero, a chosen head's become equal."""
    theirs = sys.modules[type(adapter.layers[0].self_attn).__module__].eager_attention_forward

    def twin(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        output, weights = theirs(module, query, key, value, mask, **kwargs)  # (B, T, H, d), (B, H, T, T)
        for layer, head in heads:
            if layer == module.layer_idx:
                equal = (weights[:, head] > 0).float()
                equal /= equal.sum(-1, keepdim=True)
                output[:, :, head] = equal @ value[:, head // (query.shape[1] // value.shape[1])]
        return output, weights

    AttentionInterface.register(TWIN, twin)
    AttentionMaskInterface.register(TWIN, AttentionMaskInterface()["eager"])
    before = adapter.text.config._attn_implementation
    set_text_attention(adapter, TWIN)
    try:
        with torch.no_grad():
            return head_means(adapter, batch, adapter.backbone(batch, adapter.inputs(batch)), [Head()])[0]
    finally:
        set_text_attention(adapter, before)


@pytest.mark.parametrize("side", ["left", "right"])
def test_uniform_heads_equal_the_whole_model_with_other_weights(adapter, side, monkeypatch):
    batch = mixed(adapter, side)
    monkeypatch.setattr(attention, "CHUNK_ELEMENTS", 40 * batch.valid.numel())  # 40 rows at a time
    found = measured(adapter, batch, UniformHeadsLoss(HEADS))
    torch.testing.assert_close(found[UniformHeadsLoss(HEADS)], eager_with_uniform_heads(adapter, batch, HEADS), **CLOSE)
    assert (found[UniformHeadsLoss(HEADS)] - found[Head()]).abs().min() > 1e-4


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_unprompted_loss_equals_the_whole_model_with_other_masks(adapter, side):
    batch = mixed(adapter, side)
    found = measured(adapter, batch, UnpromptedLoss(), UnpromptedLoss("seen"))
    kept = torch.zeros_like(batch.valid)
    for sample, special in enumerate(batch.special_mask):
        kept[sample, special.nonzero()[:1, 0]] = True
    dropped = batch.valid & (batch.labels == -100) & ~kept
    torch.testing.assert_close(found[UnpromptedLoss()], eager_without_keys(adapter, batch, dropped, 0), **CLOSE)
    dropped &= ~batch.image_mask
    torch.testing.assert_close(found[UnpromptedLoss("seen")], eager_without_keys(adapter, batch, dropped, 0), **CLOSE)
    apart = torch.stack([found[UnpromptedLoss()], found[UnpromptedLoss("seen")], found[Head()]])
    has_image = batch.image_mask.any(1)
    assert (apart[0] - apart[2]).abs().min() > 1e-4
    assert (apart[0] - apart[1])[has_image].abs().min() > 1e-4
    assert (apart[0] - apart[1])[~has_image].abs().sum() == 0


def test_neither_prompt_nor_image_reaches_the_answer(adapter):
    """Other words and other pixels, as many of them, change the loss, but not that without the prompt."""
    need, seen = UnpromptedLoss(), UnpromptedLoss("seen")
    ways = [("what is it", "60x60#1"), ("when is ex", "60x60#1"), ("what is it", "60x60#2")]
    found = [measured(adapter, batch_of(adapter, [ask("a", q, "a thing", i)]), need, seen) for q, i in ways]
    torch.testing.assert_close(found[1][need], found[0][need], **CLOSE)
    torch.testing.assert_close(found[2][need], found[0][need], **CLOSE)
    torch.testing.assert_close(found[1][seen], found[0][seen], **CLOSE)
    assert (found[2][seen] - found[0][seen]).abs() > 1e-4
    assert all((other[Head()] - found[0][Head()]).abs() > 1e-4 for other in found[1:])


def test_which_keys_are_dropped():
    batch = hand_batch(".siippsaapas", "iisppaaaaaaa", "ppppaaaaaaaa")
    change = UnpromptedLoss().intervene(None, batch, None)
    assert change.chosen.int().tolist() == [
        [0, 0, 1, 1, 1, 1, 1, 0, 0, 1, 0, 1],
        [1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    assert change.undefined.tolist() == [False] * 3
    seen = UnpromptedLoss("seen").intervene(None, batch, None)
    assert seen.chosen[1].int().tolist() == [
        0,
        0,
        0,
        1,
        1,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ]
    assert UnpromptedLoss().intervene(None, hand_batch("saa"), None).undefined.tolist() == [True]


def test_layers_before_the_first_uniform_head_are_not_run_again(toy_path):
    adapter = opened(toy_path("llava"))
    batch = mixed(adapter, "right")
    with counted(adapter) as calls:
        measured(adapter, batch, UniformHeadsLoss(((2, 0),)))
    assert calls["layers"] == adapter.depth + 1
    assert calls["vision"] == 1


@pytest.mark.parametrize(
    ("heads", "sentence"),
    [
        ((), r"needs the heads to make uniform and was given none; find them .*retrieval_heads"),
        (((3, 0),), r"head 3\.0 is not in this model of 3 layers with 4 heads"),
        (((0, 4),), r"head 0\.4 is not in this model"),
    ],
)
def test_heads_that_cannot_be_meant(heads, sentence, toy_path):
    adapter = opened(toy_path("llava"))
    with pytest.raises(UsageError, match=sentence):
        measured(adapter, mixed(adapter, "right"), UniformHeadsLoss(heads))


@pytest.mark.parametrize("need", [UnpromptedLoss(), UniformHeadsLoss(HEADS)], ids=["unprompted", "uniform"])
def test_a_layer_that_bypasses_the_interface_is_named(need, toy_path):
    adapter = open_model(ModelSpec(toy_path("llava"), device="cpu", dtype="float32"))
    bypass(adapter.layers[1])
    with pytest.raises(UnsupportedModel, match=r"layers \[1\] of 3 did not pass through .*AttentionInterface"):
        measured(adapter, mixed(adapter, "right"), need)


def test_a_fault_leaves_no_head_uniform(toy_path, monkeypatch):
    adapter = opened(toy_path("llava"))
    batch = mixed(adapter, "right")
    with Capture(adapter) as capture:
        sound = measure(capture, batch, [Head()])[Head()]
        with monkeypatch.context() as patched:
            patched.setattr(attention, "visible_keys", lambda *positional: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                measure(capture, batch, [UniformHeadsLoss(HEADS)])
        assert capture.intervention is None
        assert torch.equal(measure(capture, batch, [Head()])[Head()], sound)


def test_the_mean_of_what_is_visible_by_hand():
    """Four query heads on two value heads; heads 1 and 2 look through one each. Values count up by position."""
    value = torch.tensor([[1.0, 2.0, 6.0], [10.0, 30.0, 50.0]])[None, :, :, None]  # (1, 2, 3, 1)
    found = visible_means(value, None, [1, 2], count=4, causal=True)
    torch.testing.assert_close(found[0, :, :, 0], torch.tensor([[1.0, 10.0], [1.5, 20.0], [3.0, 30.0]]))
    window = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 1]], dtype=torch.bool)[None, None]
    assert visible_means(value, window, [1], count=4, causal=True)[0, :, 0, 0].tolist() == [1.0, 1.5, 4.0]
    padded = torch.tensor([[0, 0, 0], [0, 1, 0], [0, 1, 1]], dtype=torch.bool)[None, None]
    assert visible_means(value, padded, [0], count=4, causal=True)[0, :, 0, 0].tolist() == [0.0, 2.0, 4.0]
    assert visible_means(value, None, [0], count=4, causal=False)[0, :, 0, 0].tolist() == [3.0, 3.0, 3.0]
    assert visible_means(value.bfloat16(), None, [0], count=4, causal=True).dtype == torch.bfloat16
