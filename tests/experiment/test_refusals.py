"""What scoring, training or judging would refuse is refused before a single forward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.experiment.bench import SMALL, write_plan
from tests.forwards import counted_forwards
from vlmsift.demo import MODEL_PATH
from vlmsift.errors import MissingExtra, UsageError
from vlmsift.experiment import validate

ALONG = {"name": "drops", "signals": ["trajectory=answer_loss"], "selector": "trajectories", "snapshots": 3}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": {"model": str(MODEL_PATH), "dtype": "float16"}}, "dtype 'float16' is no precision to train in"),
        (
            {"model": {"model": str(MODEL_PATH), "device": "cuda:1"}},
            "device 'cuda:1': one process trains on one device, auto or cpu or cuda",
        ),
        ({"model": "no/model/here"}, "there is no model folder"),
        ({"scorer": "no/model/here"}, "there is no model folder"),
        ({"methods": ["full", {"name": "deep", "signals": ["delta_attnmask:depth=12"]}]}, "depth=12 is outside"),
        (
            {"methods": ["delta-attnmask", ALONG], "recipe": {**SMALL, "batch_size": 64}},
            "has 1 step of batch_size=64, and a trajectory",
        ),
        ({"augmentations": [{"name": "deep", "variant": "top", "depth": 12}]}, "augmentations: deep: .*depth=12"),
    ],
)
def test_no_forward_before_a_refusal(tmp_path: Path, data: Path, change: dict[str, Any], says: str) -> None:
    plan = write_plan(tmp_path, data, **{"methods": ["full", "delta-attnmask"], **change})
    with counted_forwards() as called, pytest.raises(UsageError, match=says):
        validate(plan)
    assert called == []
    assert not (tmp_path / "out" / "cells").exists()


def test_one_process_of_many_and_a_missing_package(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = write_plan(tmp_path, data, methods=["delta-attnmask"], recipe={**SMALL, "name": "llava-1.5-lora"})
    with counted_forwards() as called:
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(UsageError, match="WORLD_SIZE=2: one process trains"):
            validate(plan)
        monkeypatch.setenv("WORLD_SIZE", "1")
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "peft" else name)
        with pytest.raises(MissingExtra, match="training needs peft"):
            validate(plan)
    assert called == []
