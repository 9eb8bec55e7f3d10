"""masked_states under the trainers that people use: a few steps each, on tiny models of several families."""

from __future__ import annotations

import warnings

import pytest
import torch

from tests.augment.helpers import gradients, trainable, training_batch, weights_equal
from tests.models.helpers import picture
from vlmsift.augment import VARIANTS, masked_states

pytestmark = pytest.mark.filterwarnings("ignore")
SETTING = {"depth": 0.5, "ratio": 0.5}


def rows(count=6):
    """Conversations with a picture each, as TRL takes them."""
    return [
        {
            "images": [picture(f"{40 + 4 * number}x48#{number}")],
            "messages": [
                {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": f"what is {number}?"}]},
                {"role": "assistant", "content": [{"type": "text", "text": f"a thing, {number}"}]},
            ],
        }
        for number in range(count)
    ]


def sft_trainer(adapter, folder, **arguments):
    from datasets import Dataset
    from transformers import AutoProcessor
    from trl import SFTConfig, SFTTrainer

    config = SFTConfig(
        output_dir=str(folder),
        max_steps=3,
        per_device_train_batch_size=2,
        learning_rate=0.05,
        report_to="none",
        save_strategy="no",
        logging_steps=1,
        max_length=None,
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
        **{"bf16": False, "gradient_checkpointing": False, **arguments.pop("config", {})},
    )
    return SFTTrainer(
        adapter.model,
        config,
        train_dataset=Dataset.from_list(rows()),
        processing_class=AutoProcessor.from_pretrained(adapter.name),
        **arguments,
    )


def trained(adapter, folder, variant=None, how=None, **arguments):
    """The weights after three steps, and the augmentation that was open."""
    trainer = sft_trainer(adapter, folder, **arguments)
    if variant is None:
        trainer.train()
        augmented = None
    else:
        with masked_states(trainer.model, variant, probability=1.0, **(how or {})) as augmented:
            trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 3
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}, augmented, losses


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "gemma3"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_sft_trainer_runs_each_variant(toy_path, tmp_path, family, variant):
    folder = toy_path(family)
    plain = test_sft_trainer_runs_each_variant.plain.get(family)
    if plain is None:
        plain = trained(trainable(folder), tmp_path)[0]
        test_sft_trainer_runs_each_variant.plain[family] = plain
    how = SETTING if variant in ("top", "stkim", "hints", "random") else {}
    weights, augmented, losses = trained(trainable(folder), tmp_path, variant, how)
    assert (augmented.forwards, augmented.augmented) == (3, 6)
    assert all(loss == loss for loss in losses)
    assert not weights_equal(weights, plain)
    assert not any("vlmsift" in name for name in weights)


test_sft_trainer_runs_each_variant.plain = {}


@pytest.mark.parametrize("source", ["second", "one-pass", "cached"])
def test_sft_trainer_with_checkpointing_and_lora(toy_path, tmp_path, source):
    from peft import LoraConfig

    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    folder = toy_path("qwen2_5_vl")
    torch.manual_seed(0)
    plain, _, _ = trained(trainable(folder), tmp_path, peft_config=lora, config={"gradient_checkpointing": True})
    torch.manual_seed(0)
    how = {"ranking_from": source, **SETTING}
    weights, augmented, _ = trained(
        trainable(folder), tmp_path, "top", how, peft_config=lora, config={"gradient_checkpointing": True}
    )
    assert (augmented.forwards, augmented.augmented) == (3, 6)
    changed = {name for name in plain if not torch.equal(plain[name], weights[name])}
    assert changed
    assert all("lora" in name for name in changed)


def test_the_same_seed_gives_the_same_training(toy_path, tmp_path):
    folder = toy_path("llava")
    first, _, _ = trained(trainable(folder), tmp_path, "stkim", SETTING)
    second, _, _ = trained(trainable(folder), tmp_path, "stkim", SETTING)
    assert weights_equal(first, second)


def test_bf16_autocast(toy_path, tmp_path):
    weights, augmented, losses = trained(trainable(toy_path("llava")), tmp_path, "top", SETTING, config={"bf16": True})
    assert augmented.augmented == 6
    assert all(loss == loss for loss in losses)
    assert all(value.isfinite().all() for value in weights.values() if value.is_floating_point())


def test_the_ranking_runs_inside_the_trainer_s_autocast(toy_path, monkeypatch):
    """accelerate wraps the model's forward; a second forward outside of it would run in full precision."""
    from accelerate import Accelerator

    folder = toy_path("llava")
    adapter = trainable(folder)
    _, inputs = training_batch(adapter, folder, "llava")
    model = Accelerator(mixed_precision="bf16", cpu=True).prepare_model(adapter.model)
    seen = []
    forward = adapter.text.forward

    def noted(*args, **kwargs):
        seen.append(torch.is_autocast_enabled("cpu"))
        return forward(*args, **kwargs)

    monkeypatch.setattr(adapter.text, "forward", noted)
    with masked_states(model, probability=1.0, **SETTING):
        model(**inputs)
    assert seen == [True, True]


def test_transformers_trainer(toy_path, tmp_path):
    from transformers import Trainer, TrainingArguments

    folder = toy_path("llava")
    adapter = trainable(folder)
    _, inputs = training_batch(adapter, folder, "llava")
    arguments = TrainingArguments(
        str(tmp_path), max_steps=2, report_to="none", save_strategy="no", use_cpu=True, disable_tqdm=True
    )
    trainer = Trainer(adapter.model, arguments, train_dataset=[0] * 8, data_collator=lambda items: dict(inputs))
    with masked_states(adapter.model, probability=1.0, **SETTING) as augmented:
        trainer.train()
    assert augmented.forwards == 2


def test_distributed_data_parallel(toy_path, tmp_path):
    folder = toy_path("llava")
    adapter = trainable(folder)
    _, inputs = training_batch(adapter, folder, "llava")
    with masked_states(adapter, probability=1.0, **SETTING):
        expected = gradients(adapter, inputs)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(adapter.model, find_unused_parameters=True)
        adapter.model.zero_grad()
        with masked_states(wrapped, probability=1.0, **SETTING) as augmented, warnings.catch_warnings():
            wrapped(**inputs).loss.backward()
            assert augmented.augmented == 4
    finally:
        torch.distributed.destroy_process_group()
    for name, parameter in adapter.model.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name])
