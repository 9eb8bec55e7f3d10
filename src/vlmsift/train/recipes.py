"""How to train, as a table of values. In: a name and changes to it. Out: a checked `Recipe`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta

from vlmsift.errors import UsageError
from vlmsift.parameters import Count, Parameters, Positive, field_types

TrainedPart = Literal["text", "projector", "vision"]
PARTS = get_args(TrainedPart)
LARGEST_MICRO_BATCH = 16
"""Samples per forward where the recipe names none; LLaVA-1.5's own number per GPU."""


@dataclass(frozen=True)
class Recipe(Parameters):
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

    epochs: Positive = 1.0
    steps: Count | None = None
    batch_size: Count = 128
    micro_batch: Count | None = None
    learning_rate: Positive = 2e-5
    projector_learning_rate: Positive | None = None
    warmup: Annotated[float, Meta(ge=0, lt=1)] = 0.03
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: Annotated[float, Meta(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Meta(ge=0)] = 1.0
    lora: Count | None = None
    lora_alpha: Positive = 256.0
    lora_dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.05
    train: tuple[TrainedPart, ...] = ("text", "projector")
    gradient_checkpointing: bool = True
    grouping: Literal["length", "none"] = "length"
    max_length: Count = 2048
    checkpoints: Count | None = None

    name = "recipe"

    def __post_init__(self) -> None:
        if isinstance(self.train, str):
            object.__setattr__(self, "train", (self.train,))
        super().__post_init__()
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


RECIPES: dict[str, Recipe] = {
    "llava-1.5": Recipe(),
    "llava-1.5-lora": Recipe(learning_rate=2e-4, projector_learning_rate=2e-5, lora=128),
}
"""Word -> recipe, as on the command line."""


def recipe_of(recipe: str | Recipe, changes: Mapping[str, Any] | None = None) -> Recipe:
    """A named recipe, or the one given, with changes.

    Raises UsageError where there is no such recipe, no such field, or the value cannot be meant.
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise UsageError(f"no recipe {recipe!r}; known are {', '.join(RECIPES)}")
        recipe = RECIPES[recipe]
    known = list(field_types(Recipe))
    if unknown := [name for name in changes or {} if name not in known]:
        raise UsageError(f"a recipe has no {unknown[0]!r}; it has {', '.join(known)}")
    return replace(recipe, **(changes or {}))
