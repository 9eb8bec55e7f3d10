"""Small trainings. In: a toy's folder or the embedded model, and changes. Out: encoded data, results, weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.specs import with_specs
from vlmsift.models import open_model
from vlmsift.pools import open_image, open_pool
from vlmsift.specs import ModelSpec
from vlmsift.train import Trained, train
from vlmsift.train.data import EncodedData

QUICK = {"batch_size": 4, "steps": 2, "learning_rate": 1e-3, "warmup": 0.0, "gradient_checkpointing": False}
"""A recipe for toys."""


def encoded(path: Path, model: Path, **more: Any) -> EncodedData:
    """The pool encoded for that model, in this process."""
    pool = open_pool(path)
    adapter = open_model(ModelSpec(model, device="cpu", dtype="float32"))
    return EncodedData.read(pool, adapter.encoder(partial(open_image, root=pool.image_root)), workers=0, **more)


def quick(data: Any, model: Path, out: Path, **changes: Any) -> Trained:
    """A training of two steps of four samples, unless told otherwise."""
    arguments = {**QUICK, **changes}
    if "epochs" in changes and "steps" not in changes:
        arguments["steps"] = None
    return train(**with_specs(data=data, model=model, out=out, device="cpu", **arguments))


def weights(folder: Path) -> dict[str, Tensor]:
    """Name -> tensor, of a saved model."""
    return load_file(folder / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    """Whether two folders hold bit-equal weights."""
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def furthest(one: Path, other: Path) -> float:
    """Largest difference of any weight."""
    theirs = weights(other)
    return max(float((value.float() - theirs[name].float()).abs().max()) for name, value in weights(one).items())


def changed(one: Path, other: Path) -> set[str]:
    """Names of the tensors that differ."""
    theirs = weights(other)
    return {name for name, value in weights(one).items() if not torch.equal(value, theirs[name])}


def names(found: Sequence[str], part: str) -> set[str]:
    """The names that hold `part`."""
    return {name for name in found if part in name}
