"""Opening a model: its parts are found for every family; what cannot be opened correctly is refused with the cure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.models.helpers import ask, batch_of, opened, picture, varied
from tests.toys import FAMILIES
from vlmsift.errors import UnsupportedModel, UsageError
from vlmsift.models import Adapter, adapt, open_model
from vlmsift.specs import ModelSpec


@pytest.fixture(params=FAMILIES)
def adapter(request: pytest.FixtureRequest, toy_path: Callable[[str], Path]) -> Adapter:
    return opened(toy_path(request.param))


@pytest.fixture
def copied(toy_path: Callable[[str], Path], tmp_path: Path) -> Path:
    """A LLaVA folder to be broken."""
    return Path(shutil.copytree(toy_path("llava"), tmp_path / "copy"))


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
    own = adapter.model(**batch.inputs, use_cache=False).logits[0]
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
    adapter = open_model(ModelSpec(toy_path("gemma3"), device="cpu", dtype="bfloat16"))
    hidden = torch.randn(3, adapter.text_config.hidden_size, dtype=torch.bfloat16)
    plain = adapter.model.lm_head(hidden).float()
    assert adapter.head(hidden).dtype == torch.float32
    assert torch.equal(adapter.head(hidden), plain)
    adapter.text_config.final_logit_softcapping = 2.0
    torch.testing.assert_close(adapter.head(hidden), 2 * torch.tanh(plain / 2))


def test_inputs_take_the_model_s_precision(toy_path):
    adapter = open_model(ModelSpec(toy_path("llava"), device="cpu", dtype="bfloat16"))
    inputs = adapter.inputs(batch_of(adapter, [ask("s", "what?", "Q", "60x60#1")]))
    assert inputs["pixel_values"].dtype == torch.bfloat16
    assert inputs["input_ids"].dtype == torch.int64


def test_half_precision_becomes_float32_on_a_cpu_unless_asked_for(copied):
    adapter = open_model(ModelSpec(copied, device="cpu", dtype="float16"))
    adapter.model.save_pretrained(copied)
    assert open_model(ModelSpec(copied, device="cpu")).model.dtype == torch.float32
    assert open_model(ModelSpec(copied, device="cpu", dtype="float16")).model.dtype == torch.float16
    adapter.model.bfloat16().save_pretrained(copied)
    assert open_model(ModelSpec(copied, device="cpu")).model.dtype == torch.bfloat16


def test_a_chat_template_can_be_given(toy_path):
    template = "{% for m in messages %}<{{ m['role'] }}>{% for p in m['content'] %}{{ p.get('text', '<image>') }}"
    template += "{% endfor %}</s>{% endfor %}"
    adapter = open_model(ModelSpec(toy_path("llava"), device="cpu", chat_template=template))
    encoded = adapter.encoder(picture).encode(ask("s", "what?", "Q", "60x60#1"))
    text = adapter.processor.tokenizer.decode(encoded.input_ids)
    assert text == "<s><user>" + "<image>" * 16 + "what?</s><assistant>Q</s>"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "no-such-folder"}, r"there is no model folder 'no-such-folder'; check the path, or give a hub name"),
        ({"name": "/no/such"}, r"there is no model folder '/no/such'; check the path"),
        ({"name": "someone/model"}, r"no model could be loaded from 'someone/model': .*\(owner/name\)"),
        ({"dtype": "int8"}, "dtype 'int8' is unknown; choose one of auto, float32, bfloat16, float16"),
        ({"device": "banana"}, "device 'banana' cannot be used here: "),
    ],
)
def test_an_argument_that_cannot_be_meant(arguments, sentence, toy_path):
    name = arguments.pop("name", None) or toy_path("llava")
    with pytest.raises(UsageError, match=sentence):
        open_model(name, **{"device": "cpu", **arguments})


def changed(folder: Path, **changes: Any) -> None:
    """Change the text model's configuration on disk."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["text_config"] |= changes
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (
            lambda path: (path / "model.safetensors").write_bytes(b"x" * 999),
            "cannot be opened as an image-text model: ",
        ),
        (lambda path: (path / "tokenizer.json").write_text("{}"), "cannot be opened as an image-text model: "),
        (lambda path: (path / "config.json").write_text('{"model_type": "llama"}'), "image-text model: Unrecognized"),
        (
            lambda path: (path / "chat_template.jinja").unlink(),
            "no chat template, .* give one with --chat-template FILE",
        ),
        # one layer more than the file holds: transformers would draw it at random and only log it
        (lambda path: changed(path, num_hidden_layers=4), r"weights lack 9 tensors .*\(model.language_model.layers.3"),
        (lambda path: changed(path, hidden_size=32), "cannot be opened as an image-text model: "),
    ],
    ids=["weights", "tokenizer", "text model", "template", "missing layer", "shape"],
)
def test_a_folder_that_cannot_be_opened_correctly(break_it, sentence, copied):
    break_it(copied)
    with pytest.raises(UnsupportedModel, match=sentence):
        open_model(ModelSpec(copied, device="cpu"))


def test_a_folder_without_weights_is_an_argument_that_cannot_be_meant(copied):
    (copied / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="Give a folder written by save_pretrained"):
        open_model(ModelSpec(copied, device="cpu"))


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (ImportError("X requires the Torchvision library"), UnsupportedModel, "pip install torchvision"),
        (ImportError("No module named 'num2words'"), UnsupportedModel, "a package is missing: .*num2words"),
        (ValueError("... pass trust_remote_code=True"), UnsupportedModel, "pass --trust-remote-code"),
    ],
)
def test_a_loader_s_complaint_becomes_a_cure(error, kind, sentence, toy_path, monkeypatch):
    def fail(*positional: Any, **named: Any) -> None:
        raise error

    monkeypatch.setattr("transformers.AutoProcessor.from_pretrained", fail)
    with pytest.raises(kind, match=sentence):
        open_model(ModelSpec(toy_path("llava"), device="cpu"))


def no_norm(adapter: Adapter) -> Any:
    del adapter.text.norm


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
