"""Scoring for methods: one run for all, columns of their own for different settings, and what it costs each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlmsift import pipeline
from vlmsift.demo import MODEL_PATH
from vlmsift.formats import open_pool
from vlmsift.models import open_model
from vlmsift.signals import build_signals
from vlmsift.validate.prepare import Chooser
from vlmsift.validate.scoring import score_for


def chooser(*words: str) -> Chooser:
    signals = build_signals(words)
    return Chooser(signals, {"by": next(iter(signals)), "balance": "none"})


def test_methods_share_a_run_and_a_later_method_uses_it(tmp_path: Path, data: Path) -> None:
    pool, model = open_pool(data / "pool" / "pool.json"), open_model(MODEL_PATH)
    wanted = {
        "loss": chooser("answer_loss"),
        "first": chooser("delta_attnmask:depth=0", "answer_loss"),
        "later": chooser("delta_attnmask:depth=3", "hidden_mean:dimensions=8"),
        "draw": Chooser(),
    }
    found = score_for(wanted, pool, model, tmp_path / "scores")
    assert set(found) == {"loss", "first", "later"}
    run = found["loss"].run
    assert {one.run.folder for one in found.values()} == {run.folder}
    assert [column.name for column in run.columns()] == [
        "answer_loss",
        "delta_attnmask",
        "delta_attnmask_2",
        "hidden_mean",
    ]
    assert found["later"].how == {"by": "delta_attnmask_2", "balance": "none", "vector": "hidden_mean"}

    whole = json.loads(run.folder.with_name(f"{run.folder.name}.seconds.json").read_text())
    assert whole["forwards"] == pytest.approx(1 + 1 + 2 / 5)  # the first pass, all 5 layers, the last 2
    price = {name: one.seconds / whole["seconds"] * whole["forwards"] for name, one in found.items()}  # type: ignore[operator]
    assert price == {"loss": pytest.approx(1), "first": pytest.approx(2), "later": pytest.approx(1.4)}

    alone = pipeline.score(pool, model, tmp_path / "alone", signals=["delta_attnmask:depth=3"])
    kept = pipeline.select(run, keep=8, **found["later"].how).ids
    assert kept == pipeline.select(alone, keep=8, by="delta_attnmask", balance="none").ids

    more = {"again": chooser("other=delta_attnmask:depth=3"), "new": chooser("el2n")}
    second = score_for(more, pool, model, tmp_path / "scores")
    assert second["again"].run.folder == run.folder
    assert second["again"].how["by"] == "delta_attnmask_2"
    assert second["new"].run.folder != run.folder


def test_a_run_of_another_pool_is_not_used(tmp_path: Path, data: Path) -> None:
    model = open_model(MODEL_PATH)
    runs = [
        score_for({"loss": chooser("answer_loss")}, open_pool(data / name / "pool.json"), model, tmp_path / name)
        for name in ("pool", "test")
    ]
    moved = tmp_path / "both"
    moved.mkdir()
    runs[1]["loss"].run.folder.rename(moved / "theirs")
    found = score_for({"loss": chooser("answer_loss")}, open_pool(data / "pool" / "pool.json"), model, moved)
    assert found["loss"].run.folder.name != "theirs"
    assert found["loss"].run.pool_rows == 40
