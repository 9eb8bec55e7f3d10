"""The demo's last act. In: a pool and what was kept of it. Out: what models learn from the parts and from the whole.

Each training starts from the same weak model with the same seed, and sees its samples equally often, so that a fifth of
the pool costs a fifth of the steps. Judged on digits that neither the pool nor any training has shown.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from vlmsift.demo import START_PATH
from vlmsift.demo.held_out import write_held_out
from vlmsift.evaluate import TaskResult, evaluate
from vlmsift.pools import open_image, open_pool
from vlmsift.specs import ModelSpec

RECIPE: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": 32, "micro_batch": 32, "gradient_checkpointing": False}
"""Changes to LLaVA-1.5's recipe, for the size of the embedded model: a higher rate, smaller steps."""


@dataclass(frozen=True)
class Lesson:
    """What one training came to."""

    samples: int
    steps: int  # of the optimiser
    seconds: float
    tasks: Mapping[str, TaskResult]

    @property
    def accuracy(self) -> float:
        """Mean over tasks of the share of exact answers."""
        return sum(task.exact for task in self.tasks.values()) / len(self.tasks)


def teach(
    out: Path, pool: Path, parts: Mapping[str, Sequence[str] | None], epochs: float, tests: int, seed: int = 0
) -> dict[str, Lesson]:
    """Train the weak start on each part (ids; None = everything), and judge it and the start itself, "untrained".

    Args:
        out: folder for the test set; the trained models are thrown away. tests: its questions.
    """
    from vlmsift.models import open_model
    from vlmsift.train import train
    from vlmsift.train.data import EncodedData

    spec = ModelSpec(START_PATH, device="cpu")
    start = open_model(spec)
    pools = (open_pool(pool), open_pool(write_held_out(out / "test", tests)))
    encoders = (start.encoder(partial(open_image, root=one.image_root)) for one in pools)
    data, held_out = map(EncodedData.read, pools, encoders)
    lessons, folder = {"untrained": Lesson(0, 0, 0.0, evaluate(start, held_out))}, out / "taught"
    for name, ids in parts.items():
        chosen, changes = data if ids is None else data.subset(ids), {**RECIPE, "epochs": epochs}
        trained = train(chosen, spec, folder, changes=changes, seed=seed, resume=False)
        tasks = evaluate(replace(spec, model=trained.folder), held_out)
        lessons[name] = Lesson(trained.samples, trained.steps, trained.seconds, tasks)
        shutil.rmtree(folder)
    return lessons
