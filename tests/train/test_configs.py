"""Configurations for LLaMA-Factory and ms-swift: data that reads back, and the recipe's values under their names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.sample_pools import llava_rows, picture, write_pool
from tests.specs import with_specs
from vlmsift.errors import UsageError
from vlmsift.pools import open_pool
from vlmsift.train.configs import NO_TEMPLATE, write_configs


def settings(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


def test_the_data_reads_back_as_the_pool(pool_path, toy, tmp_path):
    done = write_configs(pool_path, toy, tmp_path / "out")
    pool, written = open_pool(pool_path), open_pool(done.data)
    assert (written.format, done.samples, done.skipped) == ("sharegpt", 10, {})
    for index in range(len(pool)):
        ours, theirs = pool[index], written[index]
        assert (theirs.id, theirs.turns) == (ours.id, ours.turns)
        assert [Path(image) for image in theirs.images] == [
            (pool.image_root / image).resolve() for image in ours.images
        ]
        assert all(Path(image).is_file() for image in theirs.images)


def test_every_message_has_the_tags_that_are_described(pool_path, toy, tmp_path):
    done = write_configs(pool_path, toy, tmp_path / "out")
    ((name, entry),) = json.loads((done.folder / "dataset_info.json").read_text()).items()
    tags, columns = entry["tags"], entry["columns"]
    assert settings(done.llama_factory)["dataset"] == name
    assert (done.folder / entry["file_name"]) == done.data
    assert entry["formatting"] == "sharegpt"
    for line in done.data.read_text().splitlines():
        row = json.loads(line)
        roles = [message[tags["role_tag"]] for message in row[columns["messages"]]]
        assert roles == [tags["user_tag"], tags["assistant_tag"]]
        marks = sum(message[tags["content_tag"]].count("<image>") for message in row[columns["messages"]])
        assert marks == len(row[columns["images"]])


def test_the_full_recipe(pool_path, toy, tmp_path):
    done = write_configs(pool_path, toy, tmp_path / "out", devices=8, seed=3)
    factory, swift = settings(done.llama_factory), settings(done.ms_swift)
    for found in (factory, swift):
        assert found["per_device_train_batch_size"] * found["gradient_accumulation_steps"] * 8 == 128
        assert (found["learning_rate"], found["warmup_ratio"], found["weight_decay"]) == (2e-5, 0.03, 0.0)
        assert (found["lr_scheduler_type"], found["num_train_epochs"], found["seed"]) == ("cosine", 1.0, 3)
        assert found["bf16"] is True
    assert (factory["finetuning_type"], factory["template"], factory["cutoff_len"]) == ("full", "llava", 2048)
    frozen = [factory[f"freeze_{part}"] for part in ("vision_tower", "multi_modal_projector", "language_model")]
    assert frozen == [True, False, False]
    assert factory["model_name_or_path"] == swift["model"] == str(toy.resolve())
    assert (swift["tuner_type"], swift["max_length"], swift["truncation_strategy"]) == ("full", 2048, "delete")
    assert [swift[f"freeze_{part}"] for part in ("vit", "aligner", "llm")] == [True, False, False]
    assert swift["dataset"] == [str(done.data)]
    assert factory["dataset_dir"] == str(done.folder)


def test_the_lora_recipe(pool_path, toy, tmp_path):
    done = write_configs(
        pool_path, toy, tmp_path / "out", recipe="llava-1.5-lora", changes={"steps": 50, "checkpoints": 10}
    )
    factory, swift = settings(done.llama_factory), settings(done.ms_swift)
    for found in (factory, swift):
        assert (found["lora_rank"], found["lora_alpha"], found["learning_rate"]) == (128, 256, 2e-4)
        assert (found["max_steps"], found["save_steps"]) == (50, 10)
        assert "num_train_epochs" not in found
    assert (factory["finetuning_type"], factory["lora_target"]) == ("lora", "all")
    assert (swift["tuner_type"], swift["aligner_lr"]) == ("lora_llm", 2e-5)
    assert any("learning rate" in note for note in done.notes)


def test_an_unknown_family_leaves_a_word_to_replace(pool_path, toy_path, tmp_path):
    done = write_configs(pool_path, toy_path("idefics3"), tmp_path / "out")
    assert settings(done.llama_factory)["template"] == done.template == NO_TEMPLATE
    assert any("'idefics3'" in note and NO_TEMPLATE in note for note in done.notes)
    named = write_configs(pool_path, "nobody/nothing", tmp_path / "named", template="llava_next")
    assert (named.template, settings(named.llama_factory)["model_name_or_path"]) == ("llava_next", "nobody/nothing")


def test_images_in_rows_become_files_and_bad_rows_are_told(tmp_path, toy):
    import base64

    content = [{"type": "image", "base64": base64.b64encode(picture(1)).decode()}, {"type": "text", "text": "what?"}]
    rows = [
        {"id": "good", "messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "a cat"}]},
        {"id": "bad", "messages": [{"role": "user", "content": 5}, {"role": "assistant", "content": "no"}]},
    ]
    path = write_pool(tmp_path, rows, "pool.jsonl")
    done = write_configs(path, toy, tmp_path / "out")
    (image,) = open_pool(done.data)[0].images
    assert Path(image).read_bytes() == picture(1)
    assert (done.samples, list(done.skipped)) == (1, ["bad"])


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"devices": 3}, "devices=3"),
        ({"devices": 0}, "devices=0"),
        ({"recipe": "best"}, "'best'"),
        ({"changes": {"rate": 1}}, "'rate'"),
    ],
)
def test_values_that_cannot_be_meant(how, told, pool_path, toy, tmp_path):
    with pytest.raises(UsageError, match=told):
        write_configs(**with_specs(data=pool_path, model=toy, out=tmp_path / "out", **how))
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_things(pool_path, toy, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other things"):
        write_configs(pool_path, toy, tmp_path)
    (tmp_path / "dataset_info.json").write_text('{"their_data": {}}')  # as LLaMA-Factory's own folder has it
    with pytest.raises(UsageError, match="holds other things"):
        write_configs(pool_path, toy, tmp_path)


def test_no_usable_row(tmp_path, toy):
    rows = llava_rows(2)
    for row in rows:
        row["conversations"] = [{"from": "nobody", "value": "?"}, {"from": "gpt", "value": "!"}]
    with pytest.raises(UsageError, match="not one of 2 rows"):
        write_configs(write_pool(tmp_path, rows), toy, tmp_path / "out")
    assert not (tmp_path / "out/data.jsonl").exists()
