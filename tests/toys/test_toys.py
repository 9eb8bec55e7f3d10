"""Each toy loads by path like a published model, its images matter, and its mechanisms are switched on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.toys import FAMILIES, VARIANTS, make_toy

TILED = ("llava_next", "llava_onevision", "qwen2_vl", "qwen3_vl", "internvl", "smolvlm", "idefics3", "mistral3")


def picture(width: int, height: int, seed: int) -> Image.Image:
    """Noise, RGB, `width` x `height` pixels."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


def encoded(processor: Any, images: list[Image.Image]) -> dict[str, Any]:
    """One sample as model inputs: a question with the images before it, and an answer."""
    if processor.chat_template is None:  # PaliGemma
        text = processor.image_token * len(images) + "what is it?"
    else:
        question = [{"type": "image"}] * len(images) + [{"type": "text", "text": "What is it?"}]
        turns = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": [{"type": "text", "text": "The first, 1 of 2."}]},
        ]
        text = processor.apply_chat_template(turns)
    has_bos = text.startswith(processor.tokenizer.bos_token or "\0")
    inputs = dict(processor(text=[text], images=images, return_tensors="pt", add_special_tokens=not has_bos))
    inputs.pop("labels", None)
    return {name: value.float() if value.is_floating_point() else value for name, value in inputs.items()}


@torch.no_grad()
def logits(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    return model(**inputs).logits[0]


@pytest.fixture(params=FAMILIES + VARIANTS)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def opened(toy_path, family):
    path = toy_path(family)
    return AutoModelForImageTextToText.from_pretrained(path).eval(), AutoProcessor.from_pretrained(path)


def test_several_images_give_finite_logits_that_differ_from_row_to_row(opened, family):
    model, processor = opened
    images = [picture(60, 60, 1)] if family == "paligemma" else [picture(60, 60, 1), picture(120, 50, 2)]
    inputs = encoded(processor, images)
    assert (inputs["input_ids"] == model.config.image_token_id).sum() >= 4 * len(images)
    found = logits(model, inputs)
    assert found.isfinite().all()
    assert found.std(dim=0).mean() > 0.1


def test_saving_and_loading_again_changes_no_token(opened, tmp_path):
    _, processor = opened
    processor.save_pretrained(tmp_path)
    images = [picture(120, 50, 2)]
    again = encoded(AutoProcessor.from_pretrained(tmp_path), images)
    first = encoded(processor, images)
    assert torch.equal(again["input_ids"], first["input_ids"])
    assert torch.equal(again["pixel_values"], first["pixel_values"])


def test_another_image_changes_the_last_position(opened):
    model, processor = opened
    one, other = (encoded(processor, [picture(60, 60, seed)]) for seed in (1, 2))
    assert torch.equal(one["input_ids"], other["input_ids"])
    assert (logits(model, one)[-1] - logits(model, other)[-1]).abs().max() > 1e-2


def test_no_parameter_is_constant(opened):
    model, _ = opened
    assert [name for name, value in model.named_parameters() if value.unique().numel() == 1 < value.numel()] == []


def test_text_attention_can_be_set_alone(opened):
    model, processor = opened
    inputs = encoded(processor, [picture(60, 60, 1)])
    before = logits(model, inputs)
    tower = getattr(model.config, "vision_config", None) or model.config.vq_config
    vision = tower._attn_implementation
    model.set_attn_implementation({"text_config": "eager"})
    assert model.config.get_text_config()._attn_implementation == "eager"
    assert tower._attn_implementation == vision
    torch.testing.assert_close(logits(model, inputs), before, atol=1e-4, rtol=0)


def test_text_layers_are_odd_in_number_and_share_key_heads(opened):
    text = opened[0].config.get_text_config()
    assert text.num_hidden_layers % 2 == 1
    assert text.num_attention_heads > text.num_key_value_heads
    assert text.max_position_embeddings == 2048


@pytest.mark.parametrize("family", TILED)
def test_shape_of_the_image_decides_the_number_of_its_tokens(opened, family):
    model, processor = opened
    counts = {
        int((encoded(processor, [picture(*size, 1)])["input_ids"] == model.config.image_token_id).sum())
        for size in ((60, 60), (120, 50))
    }
    assert len(counts) == 2


@pytest.mark.parametrize("family", ["gemma3"])
def test_an_image_attends_both_ways(opened, family):
    model, processor = opened
    inputs = encoded(processor, [picture(60, 60, 1)])
    causal = {name: value for name, value in inputs.items() if name != "token_type_ids"}
    start = int((inputs["input_ids"][0] == model.config.image_token_id).int().argmax())
    difference = (logits(model, inputs) - logits(model, causal)).abs().amax(dim=-1)
    assert difference[:start].max() == 0
    assert difference[start] > 1e-2


@pytest.mark.parametrize("family", ["gemma3"])
def test_sequences_are_longer_than_the_sliding_window(opened, family):
    text = opened[0].config.get_text_config()
    assert encoded(opened[1], [picture(60, 60, 1)])["input_ids"].shape[1] > text.sliding_window
    assert set(text.layer_types) == {"sliding_attention", "full_attention"}


@pytest.mark.parametrize("family", ["paligemma"])
def test_the_prompt_attends_both_ways_and_the_answer_does_not(opened, family):
    model, processor = opened
    images = [picture(60, 60, 1)]
    inputs = dict(processor(text=["<image>what is it?"], images=images, suffix=["a cat"], return_tensors="pt"))
    inputs.pop("labels")
    length = int((inputs["token_type_ids"][0] == 0).sum())

    def change_at(position: int) -> torch.Tensor:
        token_ids = inputs["input_ids"].clone()
        token_ids[0, position] = 70
        changed = logits(model, {**inputs, "input_ids": token_ids})
        return (changed - logits(model, inputs)).abs().amax(dim=-1)

    assert change_at(length - 2)[0] > 1e-3
    assert change_at(-1)[:-1].max() == 0


def test_weights_are_a_function_of_the_seed(tmp_path: Path):
    paths = [make_toy("llava", tmp_path / name, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    first, same, other = ((path / "model.safetensors").read_bytes() for path in paths)
    assert first == same
    assert first != other
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c"]


def test_an_unknown_family_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="no toy named 'lava'"):
        make_toy("lava", tmp_path / "x")
