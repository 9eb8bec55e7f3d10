"""How to train, as a table of values. In: a name and changes to it. Out: a checked `Recipe`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from vlmsift.errors import UsageError

PARTS = ("text", "projector", "vision")
SCHEDULES = ("cosine", "linear", "constant")
GROUPINGS = ("length", "none")
LARGEST_MICRO_BATCH = 16
"""Samples per forward where the recipe names none; LLaVA-1.5's own number per GPU."""


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are LLaVA-1.5's second stage, full fine-tuning.

    Source: the published scripts of LLaVA-1.5 (arXiv 2310.03744); `steps`, `checkpoints` and `train` are ours.

    Attributes:
        epochs: how often each sample is seen; a part of an epoch may be asked for.
        steps: optimiser steps instead of epochs, going through the data again and again; every step is full.
        batch_size: samples per optimiser step, whatever the subset. Only the very last step can hold fewer, where
            epochs do not fill it: a step may straddle two epochs.
        micro_batch: samples per forward, a divisor of `batch_size`; None = its largest divisor up to 16.
        learning_rate: of text and vision, at the end of the warm-up.
        projector_learning_rate: of the projector; None = the same.
        warmup: share of the steps. schedule: "cosine" or "linear" down to 0, or "constant", after the warm-up.
        weight_decay: of AdamW, on matrices; norms and biases have none.
        max_grad_norm: gradients are scaled down to this norm; 0 = never.
        lora: rank of LoRA on all linear layers of the text decoder, in place of its weights; None = the weights.
        lora_alpha, lora_dropout: of LoRA; ignored without it.
        train: which parts learn, of "text" (decoder and head), "projector", "vision".
        gradient_checkpointing: compute activations again in the backward pass: less memory, about a third slower.
        grouping: "length" = a step holds samples with an image, or samples without, and its forwards hold samples of
            like length, as in LLaVA; "none" = shuffled.
        max_length: tokens; longer samples are skipped, and told.
        checkpoints: steps between checkpoints from which a stopped training goes on; None = none.
    """

    epochs: float = 1.0
    steps: int | None = None
    batch_size: int = 128
    micro_batch: int | None = None
    learning_rate: float = 2e-5
    projector_learning_rate: float | None = None
    warmup: float = 0.03
    schedule: str = "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    lora: int | None = None
    lora_alpha: float = 256.0
    lora_dropout: float = 0.05
    train: tuple[str, ...] = ("text", "projector")
    gradient_checkpointing: bool = True
    grouping: str = "length"
    max_length: int = 2048
    checkpoints: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "train", (self.train,) if isinstance(self.train, str) else tuple(self.train))
        for name in ("steps", "batch_size", "micro_batch", "lora", "max_length", "checkpoints"):
            value = getattr(self, name)
            optional = name not in ("batch_size", "max_length")
            if not (optional and value is None) and (type(value) is not int or value < 1):
                raise UsageError(f"{name}={value!r} must be a whole number, 1 or more{', or None' * optional}")
        for name in ("epochs", "learning_rate", "projector_learning_rate", "lora_alpha"):
            value = getattr(self, name)
            if not (name == "projector_learning_rate" and value is None) and not _number(value, above=0):
                raise UsageError(f"{name}={value!r} must be a number above 0")
        for name in ("warmup", "lora_dropout"):
            if not _number(getattr(self, name)) or not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)!r} must be a share from 0 to below 1")
        for name in ("weight_decay", "max_grad_norm"):
            if not _number(getattr(self, name)) or getattr(self, name) < 0:
                raise UsageError(f"{name}={getattr(self, name)!r} must be a number, 0 or more")
        for name, known in (("schedule", SCHEDULES), ("grouping", GROUPINGS)):
            if getattr(self, name) not in known:
                raise UsageError(f"{name}={getattr(self, name)!r} is unknown; choose one of {', '.join(known)}")
        if not isinstance(self.gradient_checkpointing, bool):
            raise UsageError(f"gradient_checkpointing={self.gradient_checkpointing!r} must be True or False")
        if unknown := [part for part in self.train if part not in PARTS]:
            raise UsageError(f"train={unknown[0]!r} is no part of a model; choose among {', '.join(PARTS)}")
        if not self.train:
            raise UsageError(f"train={self.train!r}: nothing would learn; choose among {', '.join(PARTS)}")
        if self.lora is not None and "text" not in self.train:
            raise UsageError(f"lora={self.lora} needs 'text' in train={self.train!r}: its adapters lie in the text")
        if self.micro_batch is not None and self.batch_size % self.micro_batch:
            near = [size for size in range(1, self.batch_size + 1) if self.batch_size % size == 0]
            raise UsageError(
                f"micro_batch={self.micro_batch} does not divide batch_size={self.batch_size}; choose one of "
                f"{', '.join(map(str, near))}"
            )

    @property
    def per_forward(self) -> int:
        """Samples per forward."""
        if self.micro_batch is not None:
            return self.micro_batch
        return next(size for size in range(LARGEST_MICRO_BATCH, 0, -1) if self.batch_size % size == 0)

    def samples(self, available: int) -> int:
        """Samples seen in the whole training, repetitions counted, where `available` can be used."""
        return self.batch_size * self.steps if self.steps is not None else math.ceil(self.epochs * available - 1e-9)

    def optimiser_steps(self, available: int) -> int:
        """Optimiser steps of the whole training, where `available` samples can be used."""
        return math.ceil(self.samples(available) / self.batch_size)


def _number(value: Any, above: float | None = None) -> bool:
    """Whether it is a finite number, and above a bound if there is one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return False
    return above is None or value > above


RECIPES: dict[str, Recipe] = {
    "llava-1.5": Recipe(),
    "llava-1.5-lora": Recipe(learning_rate=2e-4, projector_learning_rate=2e-5, lora=128),
}
"""Word -> recipe, as on the command line."""


def recipe_of(recipe: str | Recipe, changes: Mapping[str, Any] | None = None) -> Recipe:
    """A named recipe, or the one given, with changes.

    Raises:
        UsageError: no recipe of that name, no field of that name, or a value that cannot be meant.
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise UsageError(f"no recipe {recipe!r}; known are {', '.join(RECIPES)}")
        recipe = RECIPES[recipe]
    known = [field.name for field in fields(Recipe)]
    if unknown := [name for name in changes or {} if name not in known]:
        raise UsageError(f"a recipe has no {unknown[0]!r}; it has {', '.join(known)}")
    return replace(recipe, **(changes or {}))
