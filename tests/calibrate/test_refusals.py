"""What a probe would refuse is refused before a single forward, and what only a probe reads is not ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.forwards import counted_forwards
from tests.specs import with_specs
from vlmsift.calibrate import calibrate
from vlmsift.demo import MODEL_PATH
from vlmsift.demo.pool import make_pool
from vlmsift.errors import FormatError, UsageError
from vlmsift.models import open_model
from vlmsift.specs import EngineSpec

HOW: dict[str, Any] = {"sample": 30, "twins": 5, "grid": ["delta_attnmask"], "engine": EngineSpec(workers=0)}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pool(tmp_path_factory.mktemp("demo") / "pool", 40, 1)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"probe_options": {"recipe": "mine"}}, "no recipe 'mine'; known are"),
        ({"probe_options": {"changes": {"epoch": 3}}}, "a recipe has no 'epoch'"),
        ({"probe_options": {"changes": {"epochs": -1}}}, "epochs=-1"),
        ({"probe_options": {"share": 1.5}}, "the probe: share=1.5 cannot be meant; give a number above 0 and below 1"),
        ({"probe_options": {"seeds": 0}}, "the probe: seeds=0 cannot be meant; give a whole number at least 1"),
        ({"probe_options": {"columns": ["el2n"]}}, "to try 'el2n', which is not measured; try delta_attnmask"),
        ({"probe_options": {"seed": 1}}, "the probe takes seed from the calibration; leave it out"),
        ({"probe_options": {"steps": 1}}, "the probe has no 'steps'; it has model, test, columns, seeds"),
        ({"probe_test": "no.json"}, "no.json"),
        ({"seed": -1}, "calibrate: seed=-1 cannot be meant"),
        ({"dtype": "float16"}, "the probe: dtype 'float16' is no precision to train in"),
        ({"device": "cuda:1"}, "the probe: device 'cuda:1': one process trains on one device, auto or cpu or cuda"),
    ],
)
def test_no_forward_before_a_probe_is_refused(pool: Path, tmp_path: Path, how: dict[str, Any], says: str) -> None:
    with counted_forwards() as called, pytest.raises((UsageError, FormatError), match=says):
        calibrate(**with_specs(pool=pool, model=MODEL_PATH, out=tmp_path / "out", probe=True, **HOW, **how))
    assert called == []
    assert not (tmp_path / "out").exists()


def test_no_forward_before_an_open_model_is_refused(pool: Path, tmp_path: Path) -> None:
    model = open_model(MODEL_PATH)
    with counted_forwards() as called, pytest.raises(UsageError, match="trains copies of the model; give its folder"):
        calibrate(pool, model, tmp_path / "out", probe=True, **HOW)
    assert called == []


def test_what_only_a_probe_reads_is_refused_without_one(pool: Path, tmp_path: Path) -> None:
    for how, says in (
        ({"probe_options": {"recipe": "llava-1.5"}}, "recipe='llava-1.5' is only read by a probe; give probe=True"),
        ({"probe_test": "test.json"}, "probe_test='test.json' is only read by a probe"),
    ):
        with pytest.raises(UsageError, match=says):
            calibrate(pool, MODEL_PATH, tmp_path / "out", **HOW, **how)  # type: ignore[arg-type]
