"""Scoring for methods: one run for all, columns of their own for different settings, and what it costs each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlmsift.demo import MODEL_PATH, START_PATH
from vlmsift.experiment.prepare import Chooser
from vlmsift.experiment.scoring import Tuned, score_for
from vlmsift.models import open_model
from vlmsift.pools import open_pool
from vlmsift.runs.spoiled import read_spoiled
from vlmsift.scoring.score import score
from vlmsift.selecting import select
from vlmsift.selectors import Mixture, Top, Trajectories, build_selector
from vlmsift.signals import build_signals
from vlmsift.specs import ModelSpec
from vlmsift.train import Recipe


def chooser(*words: str, **how: Any) -> Chooser:
    signals = build_signals(words)
    return Chooser(signals, Top(next(iter(signals)), balance="none"), **how)


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
    assert found["later"].selector == Top("delta_attnmask_2", balance="none", vector="hidden_mean")

    whole = json.loads(run.folder.with_name(f"{run.folder.name}.seconds.json").read_text())
    assert whole["forwards"] == pytest.approx(1 + 1 + 2 / 5)  # the first pass, all 5 layers, the last 2
    price = {name: one.seconds / whole["seconds"] * whole["forwards"] for name, one in found.items()}  # type: ignore[operator]
    assert price == {"loss": pytest.approx(1), "first": pytest.approx(2), "later": pytest.approx(1.4)}

    alone = score(pool, model, tmp_path / "alone", signals=["delta_attnmask:depth=3"])
    kept = select(run, found["later"].selector, 8).ids
    assert kept == select(alone, "top:balance=none", 8).ids

    more = {"again": chooser("other=delta_attnmask:depth=3"), "new": chooser("el2n")}
    second = score_for(more, pool, model, tmp_path / "scores")
    assert second["again"].run.folder == run.folder
    assert second["again"].selector == Top("delta_attnmask_2", balance="none")
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


def test_methods_that_follow_a_fine_tune_share_one(tmp_path: Path, data: Path) -> None:
    pool, model = open_pool(data / "pool" / "pool.json"), open_model(START_PATH)
    steps: list[int] = []
    tuned = Tuned(
        ModelSpec(START_PATH, device="cpu", dtype="float32"),
        pool,
        Recipe(steps=4, batch_size=8),
        lambda step, of, loss: steps.append(step),
    )
    along = Trajectories("trajectory")
    wanted = {
        "loss": chooser("answer_loss"),
        "xmas": Chooser(build_signals(["trajectory=image_spectrum"]), along, 3),
        "s2l": Chooser(build_signals(["trajectory=answer_loss"]), along, 3),
        "bye": Chooser(build_signals(["entropy_profile"]), Mixture(), 1),
    }
    found = score_for(wanted, pool, model, tmp_path, tuned=tuned)
    assert steps == [1, 2, 3, 4]
    assert found["xmas"].run.folder == found["s2l"].run.folder
    assert [found["xmas"].selector, found["s2l"].selector] == [along, Trajectories("trajectory_2")]
    losses = found["s2l"].run.vector("trajectory_2")
    assert losses.shape == (40, 3)
    (trained,) = tmp_path.glob("tuned-*-3")
    end = score(pool, trained, tmp_path / "end", signals=["answer_loss", "entropy_profile"])
    assert losses[:, -1] == pytest.approx(end.table(["answer_loss"])["answer_loss"].to_numpy(), rel=1e-4)
    assert found["bye"].run.vector("entropy_profile") == pytest.approx(end.vector("entropy_profile"), rel=1e-4)
    training = json.loads((trained / "train.json").read_text())["result"]["seconds"]
    for name, one in found.items():
        assert (one.seconds or 0.0) > (0.0 if name == "loss" else training)

    again = score_for(wanted, pool, model, tmp_path, tuned=tuned)
    assert steps == [1, 2, 3, 4]
    assert {name: one.run.folder for name, one in again.items()} == {n: one.run.folder for n, one in found.items()}


def test_heads_are_found_once(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, model = open_pool(data / "pool" / "pool.json"), open_model(START_PATH)
    words = ("attention_influence:probes=4",)
    first = score_for({"heads": chooser(*words)}, pool, model, tmp_path)["heads"]
    pace = json.loads(first.run.folder.with_name(f"{first.run.folder.name}.seconds.json").read_text())
    (search,) = pace["settling"].values()
    assert search > 0
    assert first.seconds == pytest.approx(pace["seconds"] + search), "finding the heads is part of the price"
    monkeypatch.setattr("vlmsift.signals.attention_influence.retrieval_heads", lambda *a, **k: pytest.fail("again"))
    again = score_for({"heads": chooser(*words)}, pool, model, tmp_path)["heads"]
    assert again.run.folder == first.run.folder


def test_a_rule_that_asks_how_much_is_spoiled_is_told_by_plants_and_pays_for_them(tmp_path: Path, data: Path) -> None:
    pool, model = open_pool(data / "pool" / "pool.json"), open_model(MODEL_PATH)
    signals = build_signals(["surprise", "delta_attnmask"])
    wanted = {
        "told": Chooser(signals, build_selector("judge")),
        "half": Chooser(signals, build_selector("judge:drop=0.5")),
    }
    found = score_for(wanted, pool, model, tmp_path / "scores")
    told = read_spoiled(found["told"].run.folder)
    assert told is not None
    assert told.share is not None
    assert told.seconds > 0
    assert found["told"].run.folder == found["half"].run.folder
    assert found["told"].seconds == pytest.approx(found["half"].seconds + told.seconds)  # type: ignore[operator]
    (stratum,) = select(found["told"].run, found["told"].selector, 8).made_by["strata"]
    assert stratum["judged_by"].startswith("plants told at most")
