"""The fine-tune that some methods ask for. In: a pool, the models that the user named. Out: the models to score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmsift.errors import UsageError
from vlmsift.methods.method import Method, Training
from vlmsift.runs.checkpoints import checkpoints_of

if TYPE_CHECKING:
    from vlmsift.pools import Pool
    from vlmsift.selectors import Selector
    from vlmsift.specs import ModelSpec
    from vlmsift.train import Recipe, Trained, TrainJob
    from vlmsift.train.data import EncodedData
    from vlmsift.types import Signal


def to_score(name: str, method: Method, model: Any, trained: bool) -> tuple[list[Any], bool]:
    """The models that a method scores, and whether it fine-tunes the one named before that.

    `model` is one, several, or a folder of checkpoints, as of `vlmsift.score`; `trained`: on the pool already. Raises
    UsageError where they cannot be what the method needs.
    """
    models, training = checkpoints_of(model), method.training
    named = len(model) if isinstance(model, (list, tuple)) else 1
    if training is None:
        if len(models) > 1:
            raise UsageError(f"{name} measures one model, and {len(models)} are given; give the one to score with")
        if trained:
            raise UsageError(f"{name} needs no model that was trained on the pool; leave trained out")
        return models, False
    if training.snapshots == 1:
        if named > 1:
            raise UsageError(f"{name} scores the end of one training, and {named} models are given; give that")
        return models[-1:], not trained and len(models) == 1
    if len(models) > 1:
        return models, False
    first = models[0]
    if isinstance(first, (str, Path)) and list((Path(first) / "snapshots").glob("step-*")):
        told = f"{name} follows checkpoints, and {str(first)!r} has some: give {str(Path(first) / 'snapshots')!r}"
        raise UsageError(f"{told}. To fine-tune that model anew, move them elsewhere")
    if trained:
        raise UsageError(
            f"{name} needs at least 2 checkpoints of one training on the pool, and {str(first)!r} is 1 model. Give a "
            "folder that holds step-N or checkpoint-N folders, or several models in order; or leave trained out, and "
            f"it is fine-tuned: {method.needs}"
        )
    return models, True


def refuse_unmeasured(called: str, selector: Selector, signals: Mapping[str, Signal], along: bool) -> None:
    """Raise UsageError where a selector's columns are not scored, or a vector is to be followed `along` checkpoints."""
    if lacking := [column for column in selector.reads if column not in signals]:
        raise UsageError(
            f"{called}: {selector.name} chooses by {lacking[0]!r}, which is not among its signals, "
            f"{', '.join(signals)}; name one so, as {lacking[0]}=answer_loss"
        )
    if along and (vectors := [column for column in selector.columns if signals[column].is_vector]):
        raise UsageError(
            f"{called}: {vectors[0]!r} is a vector already; what is followed along checkpoints is a number, such as "
            "trajectory=image_spectrum"
        )


def refuse_short(recipe: Recipe, samples: int) -> None:
    """Raise UsageError where a training on so many samples has no two checkpoints."""
    if (steps := recipe.optimiser_steps(samples)) < 2:
        raise UsageError(
            f"the fine-tune on {samples} samples has {steps} step of batch_size={recipe.batch_size}, and a trajectory "
            "has at least 2 checkpoints; set a smaller batch_size, or more epochs"
        )


def check_tuning(pool: Pool | EncodedData, model: str | Path | ModelSpec, folder: Path, training: Training) -> TrainJob:
    """The fine-tune of a method, checked as by `check_training`. Raises UsageError, also for too few steps."""
    from vlmsift.train import check_training

    snapshots = training.snapshots if training.snapshots > 1 else 0  # the end is kept in any case
    job = check_training(pool, model, folder, recipe=training.recipe, changes=training.changes, snapshots=snapshots)
    if snapshots:
        refuse_short(job.recipe, len(pool))
    return job


def fine_tune(
    job: TrainJob, *, resume: bool = True, progress: Callable[[int, int, float], None] | None = None
) -> Trained:
    """Fine-tune into the job's folder, or find it there; always by seed 0, so that another draw costs no training.

    Without `resume`, what an earlier training has left there is thrown away. Raises UsageError where the training
    diverged, else as `train`.
    """
    from vlmsift.train import run_training

    done = run_training(job, resume=resume, progress=progress)
    if done.diverged:
        raise UsageError(
            f"the fine-tune in {job.out} diverged (loss {done.loss:.3g}), so it says nothing about the pool. Remove "
            "the folder, and give a lower learning_rate"
        )
    return done


def checkpoints(trained: Trained) -> list[Path]:
    """What is to be scored of a fine-tune, in the order of its making."""
    return list(trained.snapshots) or [trained.folder]
