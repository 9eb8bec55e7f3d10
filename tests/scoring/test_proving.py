"""A model that is opened wrongly is refused with check's words before a number is kept; a good one's run says why."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import vlmsift
from tests.sample_pools import llava_rows, write_pool
from tests.train.helpers import quick, same
from vlmsift import train
from vlmsift.calibrate import calibrate
from vlmsift.cli import main
from vlmsift.errors import UnsupportedModel
from vlmsift.models import Adapter
from vlmsift.passes import intervene
from vlmsift.passes.capture import Capture
from vlmsift.scoring import batches
from vlmsift.specs import EngineSpec

ALL = ["conversation", "loss", "attention", "masked re-run"]
LOSS = r"is not supported: loss: ours \d\.\d+, the model's own \d\.\d+ nats .*'r\d+.*'.*vlmsift check"


@pytest.fixture
def model(toy_path: Callable[[str], Path]) -> Path:
    return toy_path("llava")


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return write_pool(tmp_path / "pool", llava_rows(20, text_only=(3, 12)))


@pytest.fixture
def other_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model scales its logits, and we do not know."""
    right = Adapter.head
    monkeypatch.setattr(Adapter, "head", lambda self, hidden: right(self, hidden) * 1.01)


score = partial(vlmsift.score, engine=EngineSpec(workers=0, part_size=10))


def sessions(run: Path) -> list[dict[str, Any]]:
    """In the order of their starts, also within a second."""
    files = sorted((run / "sessions").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    return [json.loads(path.read_text()) for path in files]


def nothing_scored(folder: Path) -> bool:
    return not list(folder.rglob("part-*.parquet"))


@pytest.mark.usefixtures("other_head")
def test_a_loss_that_is_not_the_models_own_is_refused_everywhere(model: Path, pool: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=LOSS):
        score(pool, model, tmp_path / "run")
    with pytest.raises(UnsupportedModel, match=LOSS):
        calibrate(
            pool,
            model,
            tmp_path / "calibration",
            sample=20,
            twins=8,
            grid=["delta_attnmask"],
            engine=EngineSpec(workers=0),
        )
    with pytest.raises(UnsupportedModel, match=LOSS):
        quick(pool, model, tmp_path / "trained")
    assert nothing_scored(tmp_path)
    assert not (tmp_path / "trained").exists()
    assert not (tmp_path / ".trained.work").exists()


@pytest.mark.usefixtures("other_head")
def test_the_command_line_says_so(model: Path, pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(["score", str(pool), f"--model={model}", f"--out={tmp_path / 'run'}", "--workers=0"])
    assert ending.value.code == 2
    assert "is not supported: loss: ours" in capsys.readouterr().err


def test_a_wrong_image_token_is_the_models_fault(model: Path, pool: Path, tmp_path: Path) -> None:
    """Samples without an image are measured all the same; they must not speak for the others."""
    copy = shutil.copytree(model, tmp_path / "model")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"image_token_index": 7}))
    with pytest.raises(UnsupportedModel, match=r"none of the first 18 samples with an image .*images not located: 1 g"):
        score(pool, copy, tmp_path / "run", signals=["answer_loss"], engine=EngineSpec(workers=0, part_size=20))
    assert nothing_scored(tmp_path)
    rows = [{**row, "image": f"nowhere/{place}.png"} for place, row in enumerate(llava_rows(18))]
    bad = write_pool(tmp_path / "bad", [*rows, *llava_rows(20)[18:]])
    summary = score(bad, model, tmp_path / "other", signals=["answer_loss"]).summary()
    assert (summary["ok"], summary["errors"]) == (2, {"missing image": 18})


def test_only_what_the_signals_use_is_in_the_way(
    model: Path, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention that is a little wrong is no matter of losses, nor is a wrong re-run of attention."""
    chunks, resume = intervene.attention_chunks, Capture.resume

    def wrong(*positional: Any, **named: Any) -> Iterator[Any]:
        for seen in chunks(*positional, **named):
            yield replace(seen, probabilities=seen.probabilities * 1.001)

    with monkeypatch.context() as patch:
        patch.setattr(intervene, "attention_chunks", wrong)
        score(pool, model, tmp_path / "a", signals=["answer_loss"])
        with pytest.raises(UnsupportedModel, match="supported: attention: "):
            score(pool, model, tmp_path / "b", signals=["image_attention"])
    monkeypatch.setattr(Capture, "resume", lambda self, *positional: resume(self, *positional) * 1.001)
    score(pool, model, tmp_path / "c", signals=["image_attention"])
    with pytest.raises(UnsupportedModel, match="supported: masked re-run: "):
        score(pool, model, tmp_path / "d", signals=["delta_attnmask"])
    assert nothing_scored(tmp_path / "b")
    assert nothing_scored(tmp_path / "d")


def test_each_start_of_a_run_records_its_proof(model: Path, pool: Path, tmp_path: Path) -> None:
    score(pool, model, tmp_path / "run")
    (told,) = sessions(tmp_path / "run")
    before = (tmp_path / "run" / "run.json").read_bytes()
    assert [[one["name"] for one in proof["proofs"]] for proof in told["proofs"]] == [ALL, ALL]
    # the shortest with an image, and the shortest without
    assert [proof["sample"] for proof in told["proofs"]] == ["r0", "r3"]
    assert all(one["passed"] for proof in told["proofs"] for one in proof["proofs"])
    (tmp_path / "run/signals/part-000001.parquet").unlink()
    score(pool, model, tmp_path / "run")
    after = sessions(tmp_path / "run")
    assert after[0] == told
    assert [proof["sample"] for proof in after[1]["proofs"]] == ["r19", "r12"]
    score(pool, model, tmp_path / "run")
    assert "proofs" not in sessions(tmp_path / "run")[2], "nothing was left to measure"
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_signals_without_a_forward_prove_the_text_alone(model: Path, pool: Path, tmp_path: Path) -> None:
    score(pool, model, tmp_path / "run", signals=["answer_tokens", "random"])
    proof, _ = sessions(tmp_path / "run")[0]["proofs"]
    assert [one["name"] for one in proof["proofs"]] == ["conversation"]


@pytest.mark.parametrize("kind", ["failed in the model", "not a number"])
def test_a_sample_that_cannot_be_measured_proves_nothing(
    kind: str, model: Path, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = batches.measure

    def failing(capture: Any, batch: Any, needs: Any, **how: Any) -> Any:
        if "r0" in batch.ids and kind == "failed in the model":
            raise IndexError("index 7 is out of range")
        faulty = torch.tensor([name == "r0" for name in batch.ids])
        return {
            need: value.masked_fill(faulty, math.nan) for need, value in measure(capture, batch, needs, **how).items()
        }

    monkeypatch.setattr(batches, "measure", failing)
    run = score(pool, model, tmp_path / "run", signals=["answer_loss"])
    assert run.summary()["errors"] == {kind: 1}
    assert "r0" not in {proof["sample"] for proof in sessions(tmp_path / "run")[0]["proofs"]}


def test_training_is_the_same_bit_by_bit_and_says_what_was_proved(
    model: Path, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(pool, model, tmp_path / "proved", lora=2)
    proof = json.loads((tmp_path / "proved/train.json").read_text())["proof"]
    assert (proof["sample"], [one["name"] for one in proof["proofs"]]) == ("r0", ALL[:2])
    monkeypatch.setattr(train, "_proved", lambda *arguments: {})
    quick(pool, model, tmp_path / "not", lora=2)
    assert same(tmp_path / "proved", tmp_path / "not")
