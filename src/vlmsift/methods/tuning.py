"""The fine-tune that some methods ask for. In: a pool, the models that the user named. Out: the models to score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmsift.errors import UsageError
from vlmsift.methods.recipe import Method, Training

if TYPE_CHECKING:
    from vlmsift.formats import Pool
    from vlmsift.train import Trained
    from vlmsift.train.data import EncodedData


def brought(name: str, method: Method, models: Sequence[str | Path], trained: bool) -> bool:
    """Whether the models named are those to score; False where the method fine-tunes the one named.

    Args:
        models: checkpoints, or one model. trained: it was fine-tuned on the pool already.

    Raises:
        UsageError: they cannot be what the method needs.
    """
    if method.training is None:
        if len(models) > 1:
            raise UsageError(f"{name} measures one model, and {len(models)} are given; give the one to score with")
        if trained:
            raise UsageError(f"{name} needs no model that was trained on the pool; leave trained out")
        return True
    if trained and method.training.snapshots > 1 and len(models) == 1:
        raise UsageError(
            f"{name} needs at least 2 checkpoints of one training on the pool, and {str(models[0])!r} is 1 model. Give "
            "a folder that holds step-N or checkpoint-N folders, or several models in order; or leave trained out, and "
            f"it is fine-tuned: {method.needs}"
        )
    return trained or len(models) > 1


def fine_tuned(
    pool: Pool | EncodedData,
    model: str | Path,
    folder: Path,
    training: Training,
    *,
    recipe: str | None = None,
    changes: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    progress: Callable[[int, int, float], None] | None = None,
) -> Trained:
    """Fine-tune a model on the pool into `folder`, or find it there. Its snapshots, or its folder, are to be scored.

    Args:
        recipe: in place of the method's own, with its changes; `changes` come on top. See `vlmsift.train`.

    Raises:
        VlmsiftError: as `train`.
    """
    from vlmsift.train import train

    known = {} if recipe else dict(training.changes)
    done = train(
        pool,
        model,
        folder,
        recipe=recipe or training.recipe,
        seed=seed,
        device="auto" if device not in ("auto", "cpu", "cuda") else device,
        dtype="auto" if dtype == "float16" else dtype,
        snapshots=training.snapshots if training.snapshots > 1 else 0,
        progress=progress,
        **{**known, **(changes or {})},
    )
    if done.diverged:
        raise UsageError(
            f"the fine-tune in {folder} diverged (loss {done.loss:.3g}), so it says nothing about the pool. Remove the "
            "folder, and give a lower learning_rate"
        )
    return done


def checkpoints(trained: Trained) -> list[Path]:
    """What is to be scored of a fine-tune, in the order of its making."""
    return list(trained.snapshots) or [trained.folder]
