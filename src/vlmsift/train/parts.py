"""Which weights learn. In: an open model and a recipe. Out: its parts, found without a name per family, and LoRA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from vlmsift.errors import UsageError
from vlmsift.models import Adapter
from vlmsift.train.recipes import Recipe

IN_THE_TOWER = ("merger", "projector")
"""Words in the names of projectors that lie inside a vision tower (Qwen-VL's merger)."""


@dataclass(frozen=True)
class Learning:
    """What the trainer is given."""

    model: Any  # the model, or the PEFT model around it
    projector: frozenset[int]  # ids of the projector's parameters that learn, for a learning rate of their own
    trained: int  # number of values that learn


def part_names(adapter: Adapter) -> dict[str, str]:
    """Parameter name -> "text", "vision" or "projector".

    Text is the decoder and the head; vision is the module that has the vision configuration, without a projector in
    it; the projector is all the rest.
    """
    model = adapter.model
    text = {id(value) for module in (adapter.text, model.get_output_embeddings()) for value in module.parameters()}
    kind = type(getattr(model.config, "vision_config", None))
    towers = [name for name, module in model.named_modules() if type(getattr(module, "config", None)) is kind]
    found = {}
    for name, value in model.named_parameters():
        tower = next((tower for tower in towers if name.startswith(f"{tower}.")), None)
        inside = name[len(tower) :] if tower else ""
        vision = tower is not None and not any(word in inside for word in IN_THE_TOWER)
        found[name] = "text" if id(value) in text else "vision" if vision else "projector"
    return found


def prepare(adapter: Adapter, recipe: Recipe, half: bool) -> Learning:
    """Make the recipe's parts learn and freeze the others. What learns is float32, so that small steps are not lost.

    With `half`, weights that do not learn may stay in half precision (the forward runs under autocast).

    Raises UsageError where the model has no weights in these parts.
    """
    model, names = adapter.model, part_names(adapter)
    model.requires_grad_(False)
    wanted = [part for part in recipe.train if not (recipe.lora and part == "text")]  # to learn in full
    if not half:
        model.float()
    learning = [name for name, part in names.items() if part in wanted]
    parameters = dict(model.named_parameters())
    if broken := [name for name in learning if not parameters[name].is_floating_point()]:
        raise UsageError(
            f"{adapter.name}: {broken[0]} is {parameters[broken[0]].dtype}, which has no gradients; train the model "
            "from which it was quantised, or give lora=..., train='text'"
        )
    for name in learning:
        parameters[name].data = parameters[name].data.float()
        parameters[name].requires_grad_(True)
    if recipe.lora:
        model = _with_lora(adapter, recipe, learning)
        parameters = dict(model.named_parameters())
        projector = {id(value) for name, value in parameters.items() if value.requires_grad and "lora_" not in name}
    else:
        projector = {id(parameters[name]) for name in learning if names[name] == "projector"}
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    if not trained:
        there = ", ".join(sorted(set(names.values())))
        raise UsageError(
            f"{adapter.name}: nothing to train: it has no weights in train={recipe.train!r}; it has {there}"
        )
    return Learning(model, frozenset(projector), trained)


def _with_lora(adapter: Adapter, recipe: Recipe, learning: list[str]) -> Any:
    """A PEFT model: LoRA on the linear layers of the text decoder, and whole modules of other parts that learn.

    Parameters outside any module of their own (LLaVA-NeXT's `image_newline`) stay as they are: PEFT cannot keep them.
    """
    from peft import LoraConfig, get_peft_model

    layers = {id(module) for module in adapter.layers.modules() if isinstance(module, nn.Linear)}
    targets = [name for name, module in adapter.model.named_modules() if id(module) in layers]
    if not targets:
        raise UsageError(f"{adapter.name}: lora={recipe.lora} finds no linear layers in its text; train without")
    config = LoraConfig(
        r=recipe.lora,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=targets,
        modules_to_save=_whole_modules(adapter.model, set(learning)) or None,
    )
    adapter.model.requires_grad_(False)
    return get_peft_model(adapter.model, config)


def _whole_modules(model: nn.Module, learning: set[str]) -> list[str]:
    """The largest modules with a forward of their own all of whose parameters learn."""
    found: list[str] = []
    for name, module in model.named_modules():
        inside = [f"{name}.{own}" for own, _ in module.named_parameters()]
        container = isinstance(module, (nn.ModuleList, nn.ModuleDict))
        covered = any(name.startswith(f"{other}.") for other in found)
        if name and inside and not container and not covered and learning.issuperset(inside):
            found.append(name)
    return found
