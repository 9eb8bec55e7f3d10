"""The trainer of transformers with our order, loss and learning rates. In: what learns, data, recipe. Out: losses."""

from __future__ import annotations

import inspect
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from vlmsift.models import Encoded
from vlmsift.train.data import EncodedData
from vlmsift.train.order import Order
from vlmsift.train.parts import Learning
from vlmsift.train.recipes import Recipe

LEARNING = "learning.safetensors"
"""A checkpoint's weights."""
Progress = Callable[[int, int, float], None]
"""Told of every step: steps done, steps in all, the step's loss in nats."""


class Loop(Trainer):  # type: ignore[misc]
    """The loss is the mean over the supervised tokens of an optimiser step, however it is cut into forwards."""

    def __init__(self, learning: Learning, data: EncodedData, recipe: Recipe, **arguments: Any) -> None:
        self.recipe, self.learning, self.encoded = recipe, learning, data
        self.started: float | None = None  # seconds of the clock, less what lies before a resumed checkpoint
        self.keeps_logits = "logits_to_keep" in inspect.signature(_plain(learning.model).forward).parameters
        super().__init__(learning.model, train_dataset=data, data_collator=self.collated, callbacks=[], **arguments)
        for silent in (PrinterCallback, ProgressCallback):
            self.remove_callback(silent)
        # makes the trainer count the step's supervised tokens for `compute_loss`, whatever the family says
        self.model_accepts_loss_kwargs = True

    def collated(self, samples: Sequence[Encoded]) -> dict[str, Any]:
        """One forward's inputs and labels."""
        batch = self.encoded.encoder.collate(samples)
        return {**batch.inputs, "labels": batch.labels}

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Scalar: the sum over this forward's supervised tokens, in nats, divided by the step's number of them.

        The head runs at positions that predict a supervised token of any sample, never on all T; the forward still
        gets all labels, because augmentation reads them.
        """
        labels = inputs["labels"]
        following = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=-100)  # (B, T), what each position predicts
        more: dict[str, Any] = {}
        if self.keeps_logits:
            kept = (following != -100).any(0).nonzero()[:, 0]  # (K,)
            more, following = {"logits_to_keep": kept}, following[:, kept]  # (B, K)
        items = (following != -100).sum() if num_items_in_batch is None else num_items_in_batch
        outputs = model(**inputs, **more, shift_labels=following.contiguous(), num_items_in_batch=items)
        loss = outputs["loss"]
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Keep the seconds so far beside each loss; checkpoints carry them to the next start."""
        if self.started is None:
            before = [entry["seconds"] for entry in self.state.log_history if "seconds" in entry]
            self.started = (start_time or time.time()) - (before[-1] if before else 0.0)
        super().log({**logs, "seconds": time.time() - self.started}, start_time)

    def _get_train_sampler(self, train_dataset: Any = None) -> Order:
        data, recipe = self.encoded, self.recipe
        total, grouped = recipe.samples(len(data)), recipe.grouping == "length"
        return Order(data.lengths, data.has_image, recipe.batch_size, total, self.args.seed, grouped)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """A checkpoint holds what learns, by the names in memory, in float32; the rest is the model of the start.

        The trainer's own way saves a model under its published names, and then does not find them again.
        """
        learning = {name: value.detach() for name, value in self.model.named_parameters() if value.requires_grad}
        Path(str(output_dir)).mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in learning.items()}, Path(str(output_dir)) / LEARNING)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        saved = load_file(Path(resume_from_checkpoint) / LEARNING)
        with torch.no_grad():
            for name, value in self.model.named_parameters():
                if value.requires_grad:
                    value.copy_(saved[name])

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW with one group per learning rate and weight decay."""
        recipe, decayed = self.recipe, set(self.get_decay_parameter_names(self.model))
        groups: dict[tuple[float, float], list[Any]] = {}
        for name, value in self.model.named_parameters():
            if value.requires_grad:
                own = recipe.projector_learning_rate if id(value) in self.learning.projector else None
                key = (own or recipe.learning_rate, recipe.weight_decay if name in decayed else 0.0)
                groups.setdefault(key, []).append(value)
        parts = [{"params": values, "lr": rate, "weight_decay": decay} for (rate, decay), values in groups.items()]
        self.optimizer = torch.optim.AdamW(parts)
        return self.optimizer


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Hands every step's loss on, and stops where it is not finite."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **more: Any) -> None:
        if logs and "loss" in logs:
            if self.progress:
                self.progress(state.global_step, state.max_steps, logs["loss"])
            if not math.isfinite(logs["loss"]):
                control.should_training_stop = True


def run(
    learning: Learning,
    data: EncodedData,
    recipe: Recipe,
    work: Path,
    seed: int,
    autocast: bool,
    resume_from: Path | None,
    progress: Progress | None,
    snapshots: TrainerCallback,  # told of every step after it is done, and of the end
) -> tuple[list[float], float]:
    """Train in place, on the model's device.

    Returns the loss of every step in nats, and seconds; both with what lies before a resumed checkpoint.
    """
    device, workers = learning.model.device, 0 if data.in_memory else data.workers
    steps = recipe.optimiser_steps(len(data))
    arguments = TrainingArguments(
        output_dir=str(work),
        max_steps=steps,
        per_device_train_batch_size=recipe.per_forward,
        gradient_accumulation_steps=recipe.batch_size // recipe.per_forward,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="constant_with_warmup" if recipe.schedule == "constant" else recipe.schedule,
        warmup_steps=math.ceil(recipe.warmup * steps),
        max_grad_norm=recipe.max_grad_norm,
        bf16=autocast,
        use_cpu=device.type == "cpu",
        seed=seed,
        save_strategy="no" if recipe.checkpoints is None else "steps",
        save_steps=recipe.checkpoints or steps,
        save_total_limit=1,  # the last checkpoint is all that resuming needs
        logging_steps=1,
        logging_nan_inf_filter=False,  # a loss that is not finite is what we look for
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,  # our collator takes whole samples
        dataloader_num_workers=workers,
        dataloader_pin_memory=device.type == "cuda",
        dataloader_multiprocessing_context="fork" if workers else None,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs in one process would change the samples per step
    loop = Loop(learning, data, recipe, args=arguments)
    loop.add_callback(_Watch(progress))
    loop.add_callback(snapshots)
    loop.train(resume_from_checkpoint=None if resume_from is None else str(resume_from))
    steps_logged = [entry for entry in loop.state.log_history if "loss" in entry]
    return [entry["loss"] for entry in steps_logged], steps_logged[-1]["seconds"]


@contextmanager
def training_state(model: Any, checkpointing: bool, seed: int) -> Iterator[None]:
    """The seed set, and gradient checkpointing on; afterwards all as it was, but for the weights."""
    states = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    plain = _plain(model)
    cache = getattr(plain.config, "use_cache", None)
    if checkpointing:
        _switch(plain, True)
    set_seed(seed)  # before LoRA draws its first weights; the trainer sets it again
    try:
        yield
    finally:
        if checkpointing:
            _switch(plain, False)
        plain.config.use_cache = cache
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.random.set_rng_state(states[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


def _plain(model: Any) -> Any:
    """The model inside a PEFT model, or itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _switch(model: Any, on: bool) -> None:
    """Gradient checkpointing; transformers has renamed the method on its way from 5.20 on."""
    what = "activation_checkpointing" if hasattr(model, "activation_checkpointing_enable") else "gradient_checkpointing"
    if on:
        getattr(model, f"{what}_enable")(**{f"{what}_kwargs": {"use_reentrant": False}})
    else:
        getattr(model, f"{what}_disable")()
