"""Opening a model: what cannot be opened correctly is refused with the cure, before its weights are read."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub import constants

from tests.models.helpers import ask, picture
from vlmsift.errors import MissingExtra, UnsupportedModel, UsageError
from vlmsift.models import open_model
from vlmsift.models import opening as opening_module
from vlmsift.models.fingerprint import config_of
from vlmsift.specs import ModelSpec


@pytest.fixture
def copied(toy_path: Callable[[str], Path], tmp_path: Path) -> Path:
    """A LLaVA folder to be broken."""
    return Path(shutil.copytree(toy_path("llava"), tmp_path / "copy"))


@pytest.fixture
def weightless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading weights fails the test."""
    for loader in (transformers.AutoProcessor, transformers.AutoModelForImageTextToText):
        monkeypatch.setattr(loader, "from_pretrained", lambda *_, **__: pytest.fail("it was loaded"))


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
        ({"dtype": "int8"}, "model: dtype='int8' cannot be meant; give one of auto, float32, bfloat16, float16"),
        ({"device": "banana"}, "device 'banana' cannot be used here: "),
    ],
)
def test_an_argument_that_cannot_be_meant(arguments, sentence, toy_path):
    name = arguments.pop("name", None) or toy_path("llava")
    with pytest.raises(UsageError, match=sentence):
        open_model(ModelSpec(name, **{"device": "cpu", **arguments}))


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
        (lambda path: (path / "config.json").write_text('{"model_type": "lava"}'), "image-text model: "),
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


@pytest.mark.usefixtures("weightless")
@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"model_type": "llama"}, "llama is a text-only model; give a vision-language model .*without images too"),
        ({"model_type": "clip"}, "clip is not an image-text model; give a vision-language model"),
        ({"model_type": "gemma3"}, "its config.json has no text_config; give a complete checkpoint"),
        ({"model_type": "blip-2", "text_config": {"model_type": "t5"}}, "Blip2Config is an encoder-decoder"),
        ({"model_type": "florence2", "text_config": {"model_type": "bart"}}, "is an encoder-decoder"),
        ({"model_type": "mllama", "text_config": {"model_type": "mllama_text_model"}}, "by cross-attention"),
        ({"model_type": "llava", "text_config": {"model_type": "llama", "num_hidden_layers": 0}}, "says 0 text layers"),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else "",
)
def test_a_configuration_that_rules_a_model_out(config, sentence, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModel, match=sentence):
        open_model(ModelSpec(tmp_path, device="cpu"))


def test_a_configuration_of_the_old_flat_form_is_read(toy_path, tmp_path):
    folder = Path(shutil.copytree(toy_path("qwen2_vl"), tmp_path / "flat"))
    config = json.loads((folder / "config.json").read_text())
    text = config.pop("text_config")
    config |= {key: value for key, value in text.items() if key not in ("model_type", "architectures")}
    (folder / "config.json").write_text(json.dumps(config))
    assert open_model(ModelSpec(folder, device="cpu")).depth == 3


@pytest.mark.usefixtures("weightless")
@pytest.mark.parametrize("device", ["meta", "banana", "cuda:99"])
def test_a_device_that_cannot_compute_is_refused_before_the_weights_are_read(device, toy_path):
    with pytest.raises(UsageError, match=f"device '{device}' (holds shapes|cannot be used here)"):
        open_model(ModelSpec(toy_path("llava"), device=device))


@pytest.mark.usefixtures("weightless")
def test_a_model_for_all_devices_names_the_extra_that_it_needs(toy_path, monkeypatch):
    monkeypatch.setattr(opening_module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"needs accelerate: pip install 'vlmsift\[gpu\]'"):
        open_model(ModelSpec(toy_path("llava"), device="spread"))


@pytest.mark.parametrize("opening", [open_model, config_of])
def test_a_hub_that_does_not_answer_is_asked_once(opening, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waited to ask again"))
    with pytest.raises(UsageError, match=r"no model could be loaded from 'someone/model': .*\(owner/name\)"):
        opening("someone/model")
