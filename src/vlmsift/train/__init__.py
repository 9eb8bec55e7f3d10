"""Fine-tune a model on samples: a thin layer over the trainer of transformers.

In: a pool or encoded samples, a model, a recipe. Out: a folder that opens like the model, with `train.json` beside the
weights, which says how they were made. It knows nothing of runs, signals and selections.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmsift.errors import UsageError
from vlmsift.parameters import Seed, check_value
from vlmsift.specs import ModelSpec, PoolSpec
from vlmsift.train import record
from vlmsift.train.job import TrainJob, check_training
from vlmsift.train.recipes import RECIPES, Recipe, recipe_of
from vlmsift.train.record import Trained

if TYPE_CHECKING:
    from vlmsift.models import Adapter
    from vlmsift.pools import Pool
    from vlmsift.train.data import EncodedData
    from vlmsift.train.saving import Writer

Context = Callable[[Any], AbstractContextManager[Any]] | None
Progress = Callable[[int, int, float], None] | None

__all__ = ["RECIPES", "Recipe", "TrainJob", "Trained", "check_training", "recipe_of", "run_training", "train"]


def train(
    data: str | Path | PoolSpec | Pool | EncodedData,
    model: str | Path | ModelSpec,
    out: str | Path,
    *,
    recipe: str | Recipe = "llava-1.5",
    changes: Mapping[str, Any] | None = None,
    seed: int = 0,
    resume: bool = True,
    context: Context = None,
    progress: Progress = None,
    snapshots: int = 0,
) -> Trained:
    """Fine-tune a model on samples and write it to the folder `out`, which appears whole or not at all.

    On a CPU the same arguments and threads give the same weights. A finished `out` made with the same arguments is
    returned as it is; with `checkpoints`, a training that was stopped goes on from the last one, and ends as it would
    have. LoRA's part is added to the weights of `out`; the adapter alone lies in `out/adapter`, for PEFT.

    Args:
        data: a file or folder of samples, a spec with its image folder and format, an open pool, or encoded samples.
        model: folder or hub name to start from, or a spec. Of its precisions, "auto" is bfloat16 autocast on a GPU if
            the checkpoint is in half precision, "bfloat16" autocast anywhere. What learns is float32 in any case; it is
            saved in the checkpoint's own precision. One process trains on one device.
        recipe: a name in `RECIPES`, or a recipe. `changes` replace single values of it.
        resume: False = start anew, and replace what an earlier training has left in `out`.
        context: `context(model)` is entered around the training; masked-states augmentation plugs in here.
        progress: told of every step: steps done, steps in all, loss.
        snapshots: so many copies of the model, evenly spaced over the optimiser steps, the last at the end (one for
            every step where that is more than there are steps; fewer where the loss stopped being a number). They lie
            in `out/snapshots/step-N`, N optimiser steps done, and open as `out` does. The training does not change by
            a bit; each takes as much disk as the model.

    Raises:
        UsageError: an argument that cannot be meant, no usable samples, nothing that learns, or an `out` with other
            things in it. RunMismatch: `out` is, or is to become, another training's result.
        UnsupportedModel: the model cannot be opened, or fails a proof of `check` on a sample of the data.
        MissingExtra: accelerate, or for LoRA peft, is not installed.
    """
    seed = check_value("train", "seed", seed, Seed)
    job = check_training(data, model, out, recipe=recipe, changes=changes, snapshots=snapshots, resume=resume)
    return run_training(job, seed=seed, resume=resume, context=context, progress=progress)


def run_training(
    job: TrainJob,
    *,
    seed: int = 0,
    resume: bool = True,
    context: Context = None,
    progress: Progress = None,
) -> Trained:
    """Carry a checked training out."""
    # only now the imports that take seconds: a wrong path is told at once
    from vlmsift.models import open_model
    from vlmsift.models.silence_transformers import silence_transformers

    dtype = job.model.dtype
    with silence_transformers():
        adapter = open_model(replace(job.model, dtype="float32" if dtype == "float32" else "auto"))
        usable = _usable(job.data, adapter, job.recipe)
        return _trained(job, usable, adapter, seed, resume, context, progress)


def _usable(data: Pool | EncodedData, adapter: Adapter, recipe: Recipe) -> EncodedData:
    """Samples encoded for this model, none longer than the recipe allows."""
    from vlmsift.pools import open_image
    from vlmsift.train.data import EncodedData

    if not isinstance(data, EncodedData):
        data = EncodedData.read(data, adapter.encoder(partial(open_image, root=data.image_root)))
    data.refuse_other_encoder(adapter)
    usable = data.without_longer_than(recipe.max_length)
    if not len(usable):
        why = next((f"; {name!r}: {reason}" for name, reason in usable.skipped.items()), "")
        raise UsageError(f"{data.pool.path}: none of {len(usable.skipped)} samples can be learnt from{why}")
    return usable


def _trained(
    job: TrainJob, data: EncodedData, adapter: Adapter, seed: int, resume: bool, context: Context, progress: Progress
) -> Trained:
    from vlmsift.models.fingerprint import fingerprint
    from vlmsift.train.loop import run, training_state
    from vlmsift.train.parts import prepare
    from vlmsift.train.saving import Writer
    from vlmsift.train.snapshots import Snapshots, evenly_spaced

    out, recipe, dtype = job.out, job.recipe, job.model.dtype
    local = Path(adapter.name).is_dir()  # a folder may be moved; its weights tell it
    identity = {
        "recipe": asdict(recipe),
        "seed": seed,
        "dtype": dtype,
        "data": data.fingerprint(),
        "model": {**fingerprint(adapter), "name": Path(adapter.name).resolve().name if local else adapter.name},
        "context": record.described(context),
        "snapshots": job.snapshots or None,  # none: as in the records from before there were any
    }
    if resume and (result := record.finished(out, identity)):
        return result
    proof = _proved(data, adapter)
    writer, on_gpu = Writer(adapter), adapter.device.type == "cuda"
    autocast = dtype == "bfloat16" or (dtype == "auto" and on_gpu and writer.dtype.itemsize == 2)
    work = out.with_name(f".{out.name}.work")
    keeping = Snapshots(work, evenly_spaced(job.snapshots, recipe.optimiser_steps(len(data))), writer)
    last = record.begin(work, identity, resume)
    if not keeping.resume(record.step_of(last) if last else 0):
        last = record.begin(work, identity, resume=False)
    try:
        with training_state(adapter.model, recipe.gradient_checkpointing, seed):
            learning = prepare(adapter, recipe, half=autocast and on_gpu)
            with nullcontext() if context is None else context(learning.model):
                losses, seconds = run(learning, data, recipe, work, seed, autocast, last, progress, keeping)
        tail, diverged = losses[-max(1, len(losses) // 10) :], record.diverged(losses)
        loss, skipped = sum(tail) / len(tail), dict(data.skipped)
        result = Trained(out, len(data), len(losses), seconds, loss, diverged, skipped, tuple(losses))
        more = {
            "pool": str(data.pool.path),
            "start": adapter.name,
            "trained_parameters": learning.trained,
            "proof": proof,
        }
        _save(writer, learning.model, work, out, lambda folder: record.write(folder, result, identity, more))
    except BaseException:
        if recipe.checkpoints is None:  # otherwise it can go on
            shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work, ignore_errors=True)
    return replace(result, snapshots=record.snapshots_in(out))


def _proved(data: EncodedData, adapter: Adapter) -> dict[str, Any]:
    """Prove loss and supervised tokens on the shortest sample (with an image, where there is one)."""
    from vlmsift.proofs import prove_sample

    place = min(range(len(data)), key=lambda place: (not data.has_image[place], data.lengths[place]))
    turns = data.pool[data.pool.ids.index(data.ids[place])].turns
    answers = [turn.text for turn in turns if turn.role == "assistant"]
    return prove_sample(adapter, data.encoder, data[place], answers)


def _save(writer: Writer, model: Any, work: Path, out: Path, write_record: Callable[[Path], None]) -> None:
    """Write model, processor and record to a folder aside, which with the snapshots then becomes `out`."""
    from vlmsift.files import remove_leftovers, replacing

    with replacing(out, record.written_to(out)) as temporary:
        writer(temporary)
        if hasattr(model, "merge_and_unload"):  # a PEFT model
            model.save_pretrained(temporary / "adapter")
        write_record(temporary)
        if (work / record.SNAPSHOTS).exists():  # at the very end: until then a training that failed here can go on
            os.replace(work / record.SNAPSHOTS, temporary / record.SNAPSHOTS)
    remove_leftovers(out.parent, out.name)
