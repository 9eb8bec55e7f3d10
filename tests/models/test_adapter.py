"""A model's parts are found for every family, and its logits are its own; what lacks a part is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.models.helpers import ask, batch_of, opened, varied
from tests.toys import FAMILIES
from vlmsift.errors import UnsupportedModel
from vlmsift.models import Adapter, adapt, open_model
from vlmsift.specs import ModelSpec


@pytest.fixture(params=FAMILIES)
def adapter(request: pytest.FixtureRequest, toy_path: Callable[[str], Path]) -> Adapter:
    return opened(toy_path(request.param))


def test_the_parts_of_every_family_are_found(adapter):
    text_config = adapter.model.config.get_text_config()
    assert adapter.depth == text_config.num_hidden_layers == len(adapter.layers)
    assert adapter.text.config is text_config is adapter.text_config
    assert adapter.layers is adapter.text.layers
    assert adapter.norm is adapter.text.norm
    assert adapter.image_token_id == adapter.model.config.image_token_id
    assert adapter.context == 2048
    assert adapter.device.type == "cpu"
    assert adapter.revision is None
    assert not any(module.training for module in adapter.model.modules())
    assert not any(parameter.requires_grad for parameter in adapter.model.parameters())


@torch.no_grad()
def test_backbone_and_head_make_the_model_s_own_logits(adapter):
    batch = batch_of(adapter, varied(adapter.model.config.model_type)[:1])
    inputs = {name: value.float() if value.is_floating_point() else value for name, value in batch.inputs.items()}
    own = adapter.model(**inputs, use_cache=False).logits[0]
    hidden = adapter.backbone(batch, adapter.inputs(batch))[0]
    torch.testing.assert_close(adapter.head(hidden), own, atol=1e-5, rtol=0)


def test_a_right_padded_batch_needs_no_mask_unless_attention_looks_ahead(adapter):
    samples = varied(adapter.model.config.model_type)
    left, right = (batch_of(adapter, samples, side) for side in ("left", "right"))
    assert torch.equal(adapter.inputs(left)["attention_mask"].bool(), left.valid)
    looks_ahead = adapter.model.config.model_type in ("gemma3", "paligemma")
    assert ("attention_mask" in adapter.inputs(right)) == looks_ahead
    assert set(right.inputs) - set(adapter.inputs(right)) <= {"attention_mask"}


def test_the_head_applies_the_model_s_soft_cap_in_float32(toy_path):
    adapter = open_model(ModelSpec(toy_path("gemma4"), device="cpu", dtype="bfloat16"))
    hidden = torch.randn(3, adapter.text_config.hidden_size, dtype=torch.bfloat16)
    plain = adapter.model.lm_head(hidden).float()
    assert adapter.head(hidden).dtype == torch.float32
    torch.testing.assert_close(adapter.head(hidden), 3 * torch.tanh(plain / 3))
    adapter.text_config.final_logit_softcapping = None
    assert torch.equal(adapter.head(hidden), plain)


@pytest.mark.parametrize("name", ["final_logit_softcapping", "logits_scaling", "logit_scale"])
def test_a_value_that_the_model_s_own_code_does_not_read_changes_nothing(name, toy_path):
    adapter = open_model(ModelSpec(toy_path("llava"), device="cpu", dtype="float32"))
    hidden = torch.randn(3, adapter.text_config.hidden_size)
    setattr(adapter.text_config, name, 2.0)
    assert torch.equal(adapter.head(hidden), adapter.model.lm_head(hidden))


def test_inputs_take_the_model_s_precision(toy_path):
    adapter = open_model(ModelSpec(toy_path("llava"), device="cpu", dtype="bfloat16"))
    inputs = adapter.inputs(batch_of(adapter, [ask("s", "what?", "Q", "60x60#1")]))
    assert inputs["pixel_values"].dtype == torch.bfloat16
    assert inputs["input_ids"].dtype == torch.int64


def no_norm(adapter: Adapter) -> Any:
    del adapter.text.norm


def renamed_norm(adapter: Adapter) -> Any:
    adapter.text.embedding_norm = adapter.text.norm
    no_norm(adapter)


def no_layers(adapter: Adapter) -> Any:
    adapter.text_config.num_hidden_layers = 0


def encoder_decoder(adapter: Adapter) -> Any:
    adapter.text_config.is_encoder_decoder = True


def cross_attention(adapter: Adapter) -> Any:
    adapter.layers[1].cross_attn = torch.nn.Identity()


def no_image_token(adapter: Adapter) -> Any:
    adapter.model.config.image_token_id = None


def fewer_layers(adapter: Adapter) -> Any:
    adapter.text.layers = adapter.layers[:2]


def no_tokenizer(adapter: Adapter) -> Any:
    return SimpleNamespace()


def slow_tokenizer(adapter: Adapter) -> Any:
    return SimpleNamespace(tokenizer=SimpleNamespace(is_fast=False), chat_template="x")


def no_template(adapter: Adapter) -> Any:
    return SimpleNamespace(tokenizer=SimpleNamespace(is_fast=True), chat_template=None)


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (no_norm, "toy: the text decoder LlamaModel has no final `norm`"),
        (no_layers, "toy: its configuration says 0 text layers"),
        (encoder_decoder, "toy: LlavaConfig is an encoder-decoder; vlmsift reads models that only decode"),
        (cross_attention, "toy: LlavaForConditionalGeneration shows its text layers the image by cross-attention"),
        (no_image_token, "toy: LlavaConfig names no image token"),
        (fewer_layers, "no text decoder with 3 `layers` was found"),
        (no_tokenizer, "its processor SimpleNamespace has no tokenizer"),
        (slow_tokenizer, "a fast tokenizer is needed"),
        (no_template, "no chat template"),
    ],
)
def test_a_model_that_lacks_a_part_is_refused(break_it, sentence, toy_path):
    adapter = open_model(ModelSpec(toy_path("llava"), device="cpu"))
    processor = break_it(adapter) or adapter.processor
    with pytest.raises(UnsupportedModel, match=sentence):
        adapt(adapter.model, processor, name="toy")


@torch.no_grad()
def test_a_final_norm_of_another_name_is_found(toy_path):
    adapter = open_model(ModelSpec(toy_path("llava"), device="cpu"))
    norm = adapter.norm
    renamed_norm(adapter)
    assert adapt(adapter.model, adapter.processor).norm is norm


@torch.no_grad()
def test_a_model_without_a_body_of_its_own_stops_before_its_head(toy_path):
    """Llama 4 is its own base model; (B, T, V) logits would be the largest thing in memory."""
    adapter = open_model(ModelSpec(toy_path("llama4"), device="cpu", dtype="float32"))
    assert adapter.model.base_model is adapter.model
    batch = batch_of(adapter, varied("llama4")[:2])
    adapter.model.get_output_embeddings().register_forward_hook(lambda *_: pytest.fail("the head ran"))
    assert adapter.backbone(batch, adapter.inputs(batch)).shape == (*batch.valid.shape, 64)
    assert not adapter.text._forward_hooks
