"""LoRA: what learns, what is written, and that the written model is the one that was trained."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText

from tests.train.helpers import changed, encoded, names, quick, same, weights
from vlmsift.errors import UsageError
from vlmsift.evaluate import evaluate
from vlmsift.models import open_model
from vlmsift.specs import ModelSpec
from vlmsift.train.parts import part_names

LORA = {"lora": 4, "lora_alpha": 8.0, "learning_rate": 5e-3, "projector_learning_rate": 1e-3}


def text_matrices(folder) -> set[str]:
    """Saved names of the text decoder's linear layers."""
    found = weights(folder)
    text = {name for name in found if ("language_model" in name or "text_model" in name) and "layers" in name}
    return {name for name in text if found[name].ndim == 2}


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "qwen3_vl", "gemma3", "idefics3"])
def test_lora_learns_text_and_projector_and_opens_again(family, toy_path, pool_path, tmp_path):
    model = toy_path(family)
    data = encoded(pool_path, model).subset([f"r{number}" for number in (0, 1, 2, 4)])
    before = evaluate(ModelSpec(model, dtype="float32"), data)["all"]
    done = quick(data, model, tmp_path / "out", steps=12, **LORA)
    after = evaluate(done.folder, data)["all"]
    assert after.loss < before.loss - 0.3
    assert after.loss < done.losses[-1] + 0.5, "the merged model is the one that was trained"
    moved = changed(tmp_path / "out", model)
    adapter = open_model(ModelSpec(model, device="cpu"))
    parts = set(part_names(adapter).values())
    assert parts == {"text", "projector", "vision"}
    assert (
        not names(moved, "embed_tokens") | names(moved, "lm_head") | names(moved, "norm.weight") & text_matrices(model)
    )
    assert text_matrices(model) <= moved
    assert (tmp_path / "out/adapter/adapter_model.safetensors").exists()


def test_the_adapter_alone_gives_the_merged_model(data, toy, tmp_path):
    done = quick(data, toy, tmp_path / "out", **LORA)
    base = AutoModelForImageTextToText.from_pretrained(toy)
    with_adapter = PeftModel.from_pretrained(base, done.folder / "adapter").merge_and_unload()
    with_adapter.save_pretrained(tmp_path / "merged")
    assert same(tmp_path / "merged", done.folder)


def test_only_the_projector_has_its_own_rate(data, toy, tmp_path):
    quick(data, toy, tmp_path / "out", steps=1, **{**LORA, "projector_learning_rate": 1e-5})
    start, end = weights(toy), weights(tmp_path / "out")
    moved = max(float((end[name] - start[name]).abs().max()) for name in names(start, "projector"))
    assert moved == pytest.approx(1e-5, rel=0.05)
    assert not names(changed(tmp_path / "out", toy), "vision_tower")


def test_text_alone(data, toy, tmp_path):
    quick(data, toy, tmp_path / "out", **{**LORA, "train": ("text",)})
    assert changed(tmp_path / "out", toy) == text_matrices(toy)


def test_lora_resumes_and_repeats(data, toy, tmp_path):
    def stop(step, steps, loss):
        if step == 3:
            raise KeyboardInterrupt

    how = {**LORA, "steps": 4, "checkpoints": 2, "lora_dropout": 0.2, "gradient_checkpointing": True}
    whole = quick(data, toy, tmp_path / "whole", **how)
    with pytest.raises(KeyboardInterrupt):
        quick(data, toy, tmp_path / "out", **how, progress=stop)
    torch.manual_seed(99)  # what the caller drew before must not matter
    assert quick(data, toy, tmp_path / "out", **how).losses == whole.losses
    assert quick(data, toy, tmp_path / "again", **how).losses == whole.losses
    assert same(tmp_path / "out", tmp_path / "whole")


def test_half_precision_weights_are_saved_in_half_again(data, toy, tmp_path):
    half = AutoModelForImageTextToText.from_pretrained(toy, dtype=torch.bfloat16)
    half.save_pretrained(tmp_path / "half")
    open_model(ModelSpec(toy, device="cpu")).processor.save_pretrained(tmp_path / "half")
    quick(data, tmp_path / "half", tmp_path / "out", **LORA)
    assert {value.dtype for value in weights(tmp_path / "out").values()} == {torch.bfloat16}


def test_a_model_without_the_part_has_nothing_to_train(data, toy, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "vlmsift.train.parts.part_names", lambda adapter: dict.fromkeys(dict(adapter.model.named_parameters()), "text")
    )
    with pytest.raises(UsageError, match=r"nothing to train: it has no weights in train=\('vision',\); it has text"):
        quick(data, toy, tmp_path / "out", train="vision")
    assert not list(tmp_path.iterdir())
