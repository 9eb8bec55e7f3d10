"""Ready configurations for trainers elsewhere. In: an exported subset and a recipe. Out: a folder with one data file
that LLaMA-Factory and ms-swift both read, and a file of settings for each.

    data.jsonl            {"messages", "images"} with whole paths
    dataset_info.json     what LLaMA-Factory has to know about it
    llama_factory.yaml    llamafactory-cli train llama_factory.yaml
    ms_swift.yaml         swift sft --config ms_swift.yaml

Checked against their public documentation: LLaMA-Factory's data README and examples, ms-swift 4's list of parameters.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmsift import files
from vlmsift.errors import SampleError, UsageError
from vlmsift.files import check_output, read_json, replacing
from vlmsift.places import StorePath
from vlmsift.pools import FORMATS, Pool, open_pool
from vlmsift.pools.writing import ImageFolder, write_text
from vlmsift.specs import ModelSpec, PoolSpec, as_spec
from vlmsift.train.recipes import Recipe, recipe_of
from vlmsift.types import Sample

TEMPLATES = {
    "llava": "llava",
    "qwen2_vl": "qwen2_vl",
    "qwen2_5_vl": "qwen2_vl",
    "qwen3_vl": "qwen3_vl",
    "internvl": "intern_vl",
    "gemma3": "gemma3",
    "paligemma": "paligemma",
    "mistral3": "mistral_small",
}
"""`model_type` -> LLaMA-Factory's template, where there is only one. ms-swift finds its own."""
SUBSET = "vlmsift_subset"
"""LLaMA-Factory's name for the data."""
NO_TEMPLATE = "NAME_THE_TEMPLATE"
"""Stands where the family is unknown; LLaMA-Factory refuses it by name."""


@dataclass(frozen=True)
class Configs:
    """What was written."""

    folder: Path
    data: Path
    llama_factory: Path
    ms_swift: Path
    samples: int  # rows of the data file
    skipped: Mapping[str, str]  # id -> why a row could not be converted
    template: str  # LLaMA-Factory's, or `NO_TEMPLATE`, to be replaced by hand
    notes: tuple[str, ...]  # where the two trainers cannot follow the recipe, a sentence each


def write_configs(
    data: str | Path | PoolSpec | Pool,
    model: str | Path | ModelSpec,
    out: str | Path,
    *,
    recipe: str | Recipe = "llava-1.5",
    changes: Mapping[str, Any] | None = None,
    template: str | None = None,
    devices: int = 1,
    seed: int = 0,
) -> Configs:
    """Write data and settings to train elsewhere with the recipe's values.

    Args:
        data: the exported subset, a spec of it, or an open pool.
        model: folder or hub name that will be trained, or a spec.
        template: LLaMA-Factory's name for the model's prompt; by default from `TEMPLATES`.
        devices: GPUs that will train; the samples per optimiser step are divided among them.
        changes: replace single values of the recipe.

    Raises:
        UsageError: a value that cannot be meant, or no row that can be used. FormatError: an unreadable file.
    """
    import yaml

    chosen = recipe_of(recipe, changes)
    if devices < 1 or chosen.batch_size % (devices * chosen.per_forward):
        raise UsageError(
            f"devices={devices} with {chosen.per_forward} samples per forward do not divide batch_size="
            f"{chosen.batch_size}; change devices, or give micro_batch=..."
        )
    pool, spec = open_pool(as_spec(PoolSpec, data)), as_spec(ModelSpec, model)
    folder = Path(out).resolve()
    check_output(folder, folder=True)
    about = folder / "dataset_info.json"
    # a folder of LLaMA-Factory's own has such a file, too
    if folder.is_dir() and any(folder.iterdir()) and not (about.exists() and set(read_json(about)) == {SUBSET}):
        raise UsageError(f"{str(out)!r} holds other things; name a new or empty folder")
    if isinstance(pool.image_root, StorePath):
        told = f"the images of {pool.path} lie in {pool.image_root}, and other trainers read files"
        raise UsageError(f"{told}; copy them to a disk, and name that folder with --images")
    folder.mkdir(parents=True, exist_ok=True)
    file, skipped = folder / "data.jsonl", dict[str, str]()
    with replacing(file) as temporary:
        images_of_rows = ImageFolder(file)
        write_text(_rows(pool, folder, skipped, images_of_rows), temporary, "jsonl")
        images_of_rows.sync()
        if len(skipped) == len(pool):
            raise UsageError(f"{pool.path}: not one of {len(pool)} rows can be used; {next(iter(skipped.items()), '')}")
    family = _family(spec)
    template = template or TEMPLATES.get(family or "", NO_TEMPLATE)
    name = str(Path(spec.one).resolve()) if Path(spec.one).exists() else str(spec.one)
    common = _common(chosen, devices, seed)
    written = {
        about.name: {SUBSET: _described(file.name)},
        "llama_factory.yaml": _llama_factory(chosen, name, folder, template) | common,
        "ms_swift.yaml": _ms_swift(chosen, name, file, folder) | common,
    }
    for target, values in written.items():
        text = json.dumps(values, indent=2) if target.endswith("json") else yaml.safe_dump(values, sort_keys=False)
        files.write_text(folder / target, text)
    llama_factory, ms_swift = folder / "llama_factory.yaml", folder / "ms_swift.yaml"
    samples, notes = len(pool) - len(skipped), tuple(_notes(chosen, template, family))
    return Configs(folder, file, llama_factory, ms_swift, samples, skipped, template, notes)


def _rows(pool: Pool, folder: Path, skipped: dict[str, str], keep: ImageFolder) -> Iterator[dict[str, Any]]:
    """Every usable row in ShareGPT's spelling; images are whole paths, and files where they were bytes."""
    for index in range(len(pool)):
        try:
            sample: Sample = pool[index]
        except SampleError as error:
            skipped[pool.ids[index]] = str(error)
            continue
        places = [
            str((folder / keep.keep(image) if isinstance(image, bytes) else pool.image_root / image).resolve())
            for image in sample.images
        ]
        yield {"id": sample.id, **FORMATS["sharegpt"].write(sample.turns, places)}


def _described(file_name: str) -> dict[str, Any]:
    """LLaMA-Factory's description of the data file."""
    return {
        "file_name": file_name,
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            **{f"{role}_tag": role for role in ("user", "assistant", "system")},
        },
    }


def _common(recipe: Recipe, devices: int, seed: int) -> dict[str, Any]:
    """Settings that have the same name in both, because both hand them to the trainer of transformers."""
    length = {"max_steps": recipe.steps} if recipe.steps else {"num_train_epochs": recipe.epochs}
    saving = {"save_strategy": "steps", "save_steps": recipe.checkpoints} if recipe.checkpoints else {}
    return {
        "per_device_train_batch_size": recipe.per_forward,
        "gradient_accumulation_steps": recipe.batch_size // recipe.per_forward // devices,
        **length,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if recipe.schedule == "constant" else recipe.schedule,
        "warmup_ratio": recipe.warmup,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "adam_beta2": 0.999,
        "bf16": True,
        "seed": seed,
        "report_to": "none",
        **(saving or {"save_strategy": "epoch"}),
    }


def _lora(recipe: Recipe) -> dict[str, Any]:
    return {"lora_rank": recipe.lora, "lora_alpha": int(recipe.lora_alpha), "lora_dropout": recipe.lora_dropout}


def _llama_factory(recipe: Recipe, model: str, folder: Path, template: str) -> dict[str, Any]:
    tuner: dict[str, Any] = {"finetuning_type": "full"}
    if recipe.lora:
        tuner = {"finetuning_type": "lora", **_lora(recipe), "lora_target": "all"}
    return {
        "model_name_or_path": model,
        "stage": "sft",
        "do_train": True,
        **tuner,
        "freeze_vision_tower": "vision" not in recipe.train,
        "freeze_multi_modal_projector": "projector" not in recipe.train,
        "freeze_language_model": "text" not in recipe.train,
        "dataset": SUBSET,
        "dataset_dir": str(folder),
        "template": template,
        "cutoff_len": recipe.max_length,
        "disable_gradient_checkpointing": not recipe.gradient_checkpointing,
        "output_dir": str(folder / "llama_factory_model"),
    }


def _ms_swift(recipe: Recipe, model: str, data: Path, folder: Path) -> dict[str, Any]:
    tuner: dict[str, Any] = {"tuner_type": "full"}
    if recipe.lora:  # "lora_llm": LoRA in the text, and the other parts that are not frozen in full, as ours
        tuner = {"tuner_type": "lora_llm", **_lora(recipe), "target_modules": "all-linear"}
    rate = recipe.projector_learning_rate
    return {
        "model": model,
        **tuner,
        "freeze_llm": "text" not in recipe.train,
        "freeze_vit": "vision" not in recipe.train,
        "freeze_aligner": "projector" not in recipe.train,
        **({"aligner_lr": rate} if rate else {}),
        "dataset": [str(data)],
        "split_dataset_ratio": 0.0,
        "max_length": recipe.max_length,
        "truncation_strategy": "delete",
        "torch_dtype": "bfloat16",
        "gradient_checkpointing": recipe.gradient_checkpointing,
        "output_dir": str(folder / "ms_swift_model"),
    }


def _notes(recipe: Recipe, template: str, family: str | None) -> Iterator[str]:
    """Where the written settings are not the recipe."""
    if template == NO_TEMPLATE:
        what = f"model family {family!r}" if family else "model, which could not be opened"
        yield f"LLaMA-Factory: no template is known for this {what}; replace {NO_TEMPLATE} in llama_factory.yaml"
    if recipe.projector_learning_rate is not None and "projector" in recipe.train:
        yield "LLaMA-Factory has one learning rate for all parts: the projector's own is left out"
    if recipe.lora and "projector" in recipe.train:
        yield "LLaMA-Factory puts LoRA where lora_target says; whether its projector learns depends on its version"
    if recipe.grouping == "length":
        yield "batches are shuffled there, not grouped by modality and length"
    yield "LLaMA-Factory cuts samples longer than cutoff_len; here and in ms-swift they are left out"


def _family(spec: ModelSpec) -> str | None:
    """`model_type` of a model's configuration; None where it cannot be had."""
    import transformers

    load: Callable[..., Any] = transformers.AutoConfig.from_pretrained
    try:
        return str(load(spec.one, revision=spec.revision, trust_remote_code=spec.trust_remote_code).model_type)
    except Exception:  # offline, private, or code of its own: the settings can be written without
        return None
