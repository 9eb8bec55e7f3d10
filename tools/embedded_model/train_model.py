"""In: a seed. Out: the embedded model's folder, with a card whose numbers were measured by this script.

    python -m tools.embedded_model.train_model --out src/vlmsift/demo/model
    python -m tools.embedded_model.train_model --out benchmarks/proxies/tiny --size tiny ...   # see benchmarks/proxies

As published LLaVAs are made: first a vision tower that can see (each patch learns to tell its digit and its place, by a
linear head that is then thrown away); it stays as it is while the projector and the text model learn to answer.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from tools.embedded_model.build import IMAGE_TOKENS, SIZES, Size, build
from tools.embedded_model.card import write_card
from tools.embedded_model.evaluate import IGNORE, evaluate
from tools.embedded_model.packing import Packer
from vlmsift.demo.digits import CELLS, draw_scene
from vlmsift.demo.questions import draw_question, draw_samples
from vlmsift.errors import UsageError

__all__ = ["Plan", "build", "evaluate", "main", "train"]

DIGITS = 10
LOOK_UP = {"which": 2, "where": 2}
ALL_TASKS = {"which": 1, "where": 2, "is_there": 3, "how_many": 3, "row_sum": 2, "describe": 1}
"""Task -> questions of it per scene. Where things are is learnt first: from it the other tasks follow quickly."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to train; a shorter one gives a weaker model of the same shape. Counts are optimiser steps."""

    vision_steps: int = 400
    vision_batch: int = 128
    look_up_steps: int = 100
    look_up_batch: int = 64
    steps: int = 800
    batch: int = 32
    learning_rate: float = 2e-3


def train(
    seed: int = 0,
    plan: Plan | None = None,
    log: Callable[[str], None] = print,
    vision_from: Path | None = None,
    size: Size | None = None,
) -> tuple[Any, Any]:
    """Train the embedded model from scratch on the digits of the `train` split.

    Args:
        seed: fixes the first weights and all data; the same seed and number of threads give the same weights.
        plan: how long.
        vision_from: folder of a model whose vision tower is taken over instead of training one.
        log: told of the progress, with the accuracy on digits of the `pool` split.
        size: widths and depths; None = the embedded model's.

    Returns:
        The model in evaluation mode, and its processor.
    """
    plan = plan or Plan()
    model, processor = build(seed, size=size)
    rng = np.random.default_rng(seed)
    if vision_from is None:
        _train_vision(model.model.vision_tower, processor, rng, plan, seed, log)
    else:
        trained = type(model).from_pretrained(vision_from, dtype=torch.float32)
        model.model.vision_tower.load_state_dict(trained.model.vision_tower.state_dict())
    _train_text(model, processor, rng, plan, log)
    return model.eval(), processor


def _train_vision(
    tower: Any, processor: Any, rng: np.random.Generator, plan: Plan, seed: int, log: Callable[[str], None]
) -> None:
    """Teach every patch of the vision tower to tell the place of its cell, and the digit or emptiness there."""
    kinds = DIGITS + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = torch.nn.Linear(tower.config.hidden_size, kinds + CELLS)
    # (16,): the cell that each patch lies in, patches row by row.
    cell_of = torch.arange(CELLS).view(2, 1, 2, 1).expand(2, 2, 2, 2).flatten()
    optimiser = _Optimiser([*tower.parameters(), *head.parameters()], plan.vision_steps, plan.learning_rate)
    tower.train()
    for step in range(1, plan.vision_steps + 1):
        scenes = [draw_scene(rng, "train") for _ in range(plan.vision_batch)]
        pictures = [scene.picture(rng) for scene in scenes]
        pixels = processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
        shown = torch.tensor([[DIGITS if value is None else value for value in scene.values] for scene in scenes])
        # (B * 16, kinds + places)
        guess = head(tower(pixels, output_hidden_states=True).hidden_states[-1][:, 1:]).flatten(0, 1)
        loss = functional.cross_entropy(guess[:, :kinds], shown[:, cell_of].flatten())
        optimiser.step(loss + functional.cross_entropy(guess[:, kinds:], cell_of.repeat(len(scenes))))
        if step % 100 == 0:
            log(f"vision {step}/{plan.vision_steps}: loss {loss.item():.3f}")


def _train_text(model: Any, processor: Any, rng: np.random.Generator, plan: Plan, log: Callable[[str], None]) -> None:
    """Teach projector and text model to answer: the loss is on answers and their end tokens only."""
    watched = draw_samples("pool", 400, seed=1)
    pack = Packer(processor, IMAGE_TOKENS)
    total = plan.look_up_steps + plan.steps
    model.model.vision_tower.requires_grad_(False)
    optimiser = _Optimiser([weight for weight in model.parameters() if weight.requires_grad], total, plan.learning_rate)
    model.train()
    for step in range(1, total + 1):
        looking_up = step <= plan.look_up_steps
        counts, size = (LOOK_UP, plan.look_up_batch) if looking_up else (ALL_TASKS, plan.batch)
        scenes = [draw_scene(rng, "train") for _ in range(size)]
        asked = [
            [draw_question(rng, scene.values, task) for task, count in counts.items() for _ in range(count)]
            for scene in scenes
        ]
        inputs, labels = pack(scenes, asked, rng)
        supervised = labels[:, 1:] != IGNORE
        hidden = model.model(**inputs).last_hidden_state[:, :-1][supervised]
        loss = functional.cross_entropy(model.lm_head(hidden), labels[:, 1:][supervised], reduction="sum")
        # Summed over an answer's tokens: each cell of a description weighs as much as a short answer.
        optimiser.step(loss / (size * sum(counts.values())))
        if step % 100 == 0 or step == total:
            log(f"text {step}/{total}: accuracy on the pool's digits {_as_text(evaluate(model, processor, watched))}")
    model.model.vision_tower.requires_grad_(True)


class _Optimiser:
    """AdamW with a warm-up of up to 50 steps, then a cosine to zero; gradients clipped at norm 1."""

    def __init__(self, weights: list[Any], steps: int, learning_rate: float) -> None:
        matrices = [weight for weight in weights if weight.ndim > 1]
        vectors = [weight for weight in weights if weight.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
        self.weights = weights
        self.inner = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.inner, lambda done: min((done + 1) / 50, 0.5 * (1 + math.cos(math.pi * done / max(steps, 1))))
        )

    def step(self, loss: torch.Tensor) -> None:
        """One step down the gradient of a scalar loss."""
        self.inner.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.inner.step()
        self.schedule.step()


def _as_text(accuracy: Mapping[str, float]) -> str:
    mean = sum(accuracy.values()) / len(accuracy)
    return ", ".join(f"{task} {share:.3f}" for task, share in accuracy.items()) + f", mean {mean:.3f}"


def main(arguments: list[str] | None = None) -> None:
    """Train, test on held-out digits, and write the folder whole or not at all."""
    parser = argparse.ArgumentParser(description="Train the embedded model from scratch.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; an older model there is replaced")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--half", action="store_true", help="store the weights as float16")
    parser.add_argument("--learning-rate", type=float, default=Plan().learning_rate)
    for name in ("vision_steps", "look_up_steps", "steps"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Plan(), name))
    parser.add_argument("--vision-from", type=Path, help="model folder whose vision tower is taken over")
    parser.add_argument("--test-samples", type=int, default=3000)
    options = parser.parse_args(arguments)
    if options.out.exists() and any(options.out.iterdir()) and not (options.out / "config.json").exists():
        raise UsageError(f"{str(options.out)!r} holds something other than a model; name a new or empty folder")
    torch.set_num_threads(options.threads)
    wall, cpu = time.perf_counter(), time.process_time()
    plan = Plan(
        options.vision_steps,
        look_up_steps=options.look_up_steps,
        steps=options.steps,
        learning_rate=options.learning_rate,
    )
    model, processor = train(options.seed, plan, vision_from=options.vision_from, size=SIZES[options.size])
    seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    if options.half:
        model.half().float()  # what is stored is what is judged
    accuracy = evaluate(model, processor, draw_samples("test", options.test_samples, seed=2))

    options.out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=options.out.parent, suffix=".tmp"))
    try:
        (model.half() if options.half else model).save_pretrained(aside)
        processor.save_pretrained(aside)
        counted = (options.test_samples, plan, options.seed, options.threads, seconds, options.vision_from)
        print(write_card(aside, model, accuracy, *counted, size=options.size))
        aside.chmod(0o755)
        for file in aside.iterdir():
            file.chmod(0o644)
        if options.out.exists():
            shutil.rmtree(options.out)
        os.replace(aside, options.out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


if __name__ == "__main__":
    main()
