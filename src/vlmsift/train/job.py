"""What a training is, checked before a model is loaded. In: what the user named. Out: a `TrainJob`, or one sentence."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmsift.errors import MissingExtra, UsageError
from vlmsift.specs import ModelSpec, PoolSpec, as_spec
from vlmsift.train import record
from vlmsift.train.recipes import Recipe, recipe_of

if TYPE_CHECKING:
    from vlmsift.pools import Pool
    from vlmsift.train.data import EncodedData

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class TrainJob:
    """One training, checked; `data` is open. The fields are explained at `train`."""

    data: Pool | EncodedData
    model: ModelSpec
    out: Path
    recipe: Recipe
    snapshots: int


def check_training(
    data: str | Path | PoolSpec | Pool | EncodedData,
    model: str | Path | ModelSpec,
    out: str | Path,
    *,
    recipe: str | Recipe = "llava-1.5",
    changes: Mapping[str, Any] | None = None,
    snapshots: int = 0,
    resume: bool = True,
) -> TrainJob:
    """A training that can be begun; the arguments are explained at `train`.

    Raises UsageError, FormatError or MissingExtra, with what to change.
    """
    record.check_output_folder(Path(out), resume)
    chosen, spec = check_setting(model, recipe, changes)
    if type(snapshots) is not int or snapshots < 0:
        raise UsageError(f"snapshots={snapshots!r} must be a whole number, 0 or more")
    opened: Any = as_spec(PoolSpec, data)
    if isinstance(opened, PoolSpec):
        from vlmsift.pools import open_pool

        opened = open_pool(opened)
    return TrainJob(opened, spec, Path(out), chosen, snapshots)


def check_setting(
    model: str | Path | ModelSpec, recipe: str | Recipe, changes: Mapping[str, Any] | None = None
) -> tuple[Recipe, ModelSpec]:
    """How to train, and what: all of a training but its data.

    Raises:
        UsageError: a recipe, model, device or precision that cannot be meant. MissingExtra: a package is missing.
    """
    from vlmsift.models.opening import check_model

    chosen = recipe_of(recipe, changes)
    spec = as_spec(ModelSpec, model)
    if not isinstance(spec, ModelSpec):
        raise UsageError("a training starts from a model on disk; give its folder or name, not an open model")
    for package in ("accelerate", *(["peft"] if chosen.lora else [])):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(f"training needs {package}: pip install 'vlmsift[train]'")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']}: one process trains on one device here. For many, write a "
            "configuration for LLaMA-Factory or ms-swift (vlmsift.train.configs)"
        )
    if spec.dtype not in PRECISIONS:
        raise UsageError(f"dtype {spec.dtype!r} is no precision to train in; choose {' or '.join(PRECISIONS)}")
    check_model(spec, devices=DEVICES)
    return chosen, spec
