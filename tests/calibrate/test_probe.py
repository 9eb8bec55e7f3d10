"""The probe: who is trained on what, what is held out, and what the figures say."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.plants.samples import layout
from vlmsift.calibrate import Calibration, calibrate
from vlmsift.calibrate.probe import BRIEF, arms, conclude, split_originals
from vlmsift.demo import MODEL_PATH
from vlmsift.demo.pool import make_pool
from vlmsift.errors import UsageError
from vlmsift.experiment.overlap import image_digests
from vlmsift.experiment.table import Key, Result
from vlmsift.plants.layout import read_layout
from vlmsift.plants.planted import Planted
from vlmsift.pools import open_pool
from vlmsift.signals.config import load_config
from vlmsift.specs import EngineSpec, ModelSpec
from vlmsift.tables import markdown_table
from vlmsift.train import recipe_of

HOW = {
    "sample": 60,
    "twins": 10,
    "grid": ["delta_attnmask", "early=delta_attnmask:depth=0"],
    "engine": EngineSpec(workers=0),
}


class School:
    """Stand-ins for training and testing: what was asked for, and results by the number of the training."""

    def __init__(self, failing: int = -1) -> None:
        self.trained: list[tuple[tuple[str, ...], int]] = []
        self.tested: list[tuple[str, ...]] = []
        self.how: dict[str, Any] = {}
        self.failing = failing

    def train(self, data: Any, model: Any, out: Path, *, seed: int, **how: Any) -> Any:
        out.mkdir(parents=True, exist_ok=True)  # a training that failed has left it
        (out / "weights").write_text("heavy")
        self.how = how
        self.trained.append((tuple(data.ids), seed))
        if len(self.trained) - 1 == self.failing:
            raise ZeroDivisionError("no luck")
        return SimpleNamespace(
            folder=out, samples=len(data), steps=3, seconds=1.0, loss=0.5, diverged=False, skipped={}
        )

    def evaluate(self, model: ModelSpec, data: Any, **how: Any) -> dict[str, Any]:
        assert (model.one / "weights").exists()
        self.tested.append(tuple(data.ids))
        exact = 0.9 if len(self.trained) <= 2 else 0.5  # the first arm learns best
        return {
            task: SimpleNamespace(samples=1, exact=exact + more, loss=1 - exact, errors=0)
            for task, more in (("a", 0), ("b", 0.1))
        }


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pool(tmp_path_factory.mktemp("demo") / "pool", 80, 1, spoiled=0.2)


def probed(pool: Path, out: Path, school: School, **more: Any) -> Calibration:
    options = {"seeds": 2, **more.pop("options", {})}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vlmsift.train.train", school.train)
        patch.setattr("vlmsift.evaluate.evaluate", school.evaluate)
        return calibrate(pool, MODEL_PATH, out, **HOW, probe=True, probe_options=options, **more)


@pytest.fixture(scope="module")
def done(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Calibration, School]:
    school = School()
    return probed(pool, tmp_path_factory.mktemp("out") / "calibration", school), school


def test_every_setting_is_trained_with_the_same_seeds_on_as_many_samples(done):
    found, school = done
    settings = list(dict.fromkeys(result.key.method for result in found.probe.results))
    assert settings[-2:] == ["answer_loss", "random"]
    assert 3 <= len(settings) <= 4
    assert len(school.trained) == 2 * len(settings)
    assert [seed for _, seed in school.trained] == [0, 1] * len(settings)
    sizes = {len(ids) for ids, _ in school.trained}
    assert len(sizes) == 1
    subsets = [ids for ids, _ in school.trained]
    assert subsets[0] == subsets[1]
    assert len(set(subsets)) == len(settings)
    assert school.how["recipe"] == recipe_of("llava-1.5", BRIEF)


def test_nothing_held_out_was_trained_on(done, pool):
    _found, school = done
    planted = Planted(open_pool(pool), sample=60, twins=10)
    rows = {name: row for row, name in enumerate(planted.ids)}
    tested = school.tested[0]
    assert len(tested) == 15
    assert set(school.tested) == {tested}
    assert not any("~" in name for name in tested)
    seen = image_digests(planted, [rows[name] for name in tested])
    assert len(seen) > 10
    for ids, _ in school.trained:
        for name in ids:
            assert planted.originals[planted.entries[rows[name]].of].id not in tested
            assert not image_digests(planted, [rows[name]]) & seen


def test_the_probe_decides_and_both_columns_are_shown(done):
    found, _ = done
    first = found.probe.results[0].key.method
    assert found.column == found.probe.column == first
    assert found.probe.means[first] == pytest.approx({"probe_exact": 0.95, "probe_loss": 0.1})
    row = next(row for row in found.table if row["column"] == first)
    assert row["probe_exact"] == pytest.approx(0.95)
    assert row["auroc_mean"] > 0
    assert next(row for row in found.table if row["column"] == "calibrated")["probe_exact"] is None
    text = (found.folder / "calibration.md").read_text()
    assert "| setting | mean AUROC | held-out exact |" in text
    assert "probe exact" in text
    assert f"Probe: {first} taught most (0.950 exact), so it is recommended." in found.sentences
    assert "The probe measures on held-out samples of the pool itself" in " ".join(found.sentences)
    assert load_config(found.config).select["by"] == found.recommended.partition(":")[0]


def test_trained_weights_are_removed_and_a_second_start_trains_nothing(done, pool):
    found, _ = done
    assert list((found.folder / "probe" / "work").iterdir()) == []
    assert len(list((found.folder / "probe" / "cells").glob("*.json"))) == len(found.probe.results)
    school = School()
    again = probed(pool, found.folder, school)
    assert school.trained == []
    assert again.probe.results == found.probe.results
    longer = probed(pool, found.folder, school, options={"changes": {"epochs": 3.0}})
    assert len(school.trained) == len(longer.probe.results)


def test_a_test_file_is_measured_whole_and_its_pictures_are_not_trained_on(done, pool, tmp_path):
    rows = json.loads(pool.read_text())[:10]
    test = pool.parent / "test.json"
    test.write_text(json.dumps(rows))
    school = School()
    try:
        found = probed(pool, done[0].folder, school, probe_test=test)
    finally:
        test.unlink()
    assert school.tested[0] == tuple(row["id"] for row in rows)
    assert not any("of the pool itself" in sentence for sentence in found.sentences)
    names = {row["id"] for row in rows}
    assert not any(name in names for ids, _ in school.trained for name in ids)


def test_a_probe_with_too_little_to_train_on(done, pool):
    with pytest.raises(UsageError, match="too few to take 0% of"):
        probed(pool, done[0].folder, School(), options={"share": 0.001})


def test_a_training_that_fails_is_told_and_tried_again(done, pool):
    changes = {"changes": {"epochs": 5.0}}
    broken = probed(pool, done[0].folder, School(failing=2), options=changes)
    told = [
        sentence for sentence in broken.sentences if "failed and is not counted: ZeroDivisionError: no luck" in sentence
    ]
    assert len(told) == 1
    school = School()
    mended = probed(pool, done[0].folder, school, options=changes)
    assert len(school.trained) == 1
    assert len(mended.probe.results) == len(broken.probe.results) + 1


def test_held_out_originals_take_their_twins_with_them():
    rows = layout(40, ["wrong_image", "duplicate"])
    held_out, rest = split_originals(rows, 0)
    assert len(held_out) == 10
    assert rows.originals[held_out].all()
    assert not set(rows.of[held_out]) & set(rows.of[rest])
    assert len(rest) == 3 * 30
    assert split_originals(rows, 0)[0].tolist() == held_out.tolist() != split_originals(rows, 1)[0].tolist()


def results(exact: dict[str, list[float]], diverged: str = "") -> list[Result]:
    return [
        Result(
            Key("trained", "epochs", "20%", name, "none"),
            seed,
            0.2,
            True,
            9,
            3,
            1.0,
            0.0,
            name == diverged,
            {"a": value},
            {"a": 1 - value},
        )
        for name, values in exact.items()
        for seed, value in enumerate(values)
    ]


def test_a_clear_winner_a_tie_and_chance():
    clear = conclude(
        results({"a": [0.9, 0.91], "b": [0.5, 0.51], "random": [0.6, 0.61]}), {"a": 0.6, "b": 0.9, "random": 0.5}
    )
    assert clear.column == "a"
    assert len(clear.sentences) == 1
    tied = conclude(results({"a": [0.7, 0.5], "random": [0.7, 0.6]}), {"a": 0.6, "random": 0.5})
    assert tied.column == "a", "chance is never recommended"
    assert tied.sentences[1] == "It is not told apart from a random choice (0.650): seeds differ by 0.141."


def test_a_training_that_diverged_is_told_and_not_averaged():
    probe = conclude(results({"a": [0.9, 0.9], "b": [0.5, 0.6]}, diverged="a"), {"a": 0.9, "b": 0.5})
    assert probe.column == "b"
    assert "a" not in probe.means
    assert probe.sentences[:2] == [
        f"A training is not counted: diverged, in no mean: epochs 20% a none seed {seed}." for seed in (0, 1)
    ]
    nothing = conclude(results({"a": [0.9]}, diverged="a"), {"a": 0.9})
    assert nothing.column is None
    assert nothing.sentences[-1] == "The probe cannot tell: every training failed or diverged."
    assert "| b | 0.500 | 0.550 ± 0.071 | 0.450 | 2 |" in markdown_table(probe.records())


def test_the_settings_to_try():
    def judged(**means: float) -> dict[str, Any]:
        family = {"answer_loss": "signal", "random": "signal", "chance": "control"}
        return {
            name: SimpleNamespace(
                mean=SimpleNamespace(value=value), candidate=SimpleNamespace(family=family.get(name, "delta"))
            )
            for name, value in means.items()
        }

    every = judged(one=0.6, two=0.7, none=np.nan, chance=0.9, answer_loss=0.8, random=0.5)
    assert arms(every, "one") == ["two", "one", "answer_loss", "random"]
    assert arms(every, "two") == ["two", "answer_loss", "random"]
    assert arms(every, None) == ["two", "answer_loss", "random"]


def test_rows_that_failed_are_no_part_of_the_layout(done, pool):
    planted = Planted(open_pool(pool), sample=60, twins=10)
    rows, _said = read_layout(done[0].run, planted)
    status = np.array(done[0].run.table(["status"])["status"].to_pylist())
    usable = rows.originals | np.logical_or.reduce(list(rows.twins.values()))
    assert (usable == (status == "ok")).all()
    assert rows.by_image == {"wrong_image", "blank_image", "cropped_image", "shuffled_image", "trigger_patch"}
