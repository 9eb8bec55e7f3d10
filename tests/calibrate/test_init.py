"""A calibration from end to end: the embedded model on a small demo pool."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.sample_pools import llava_rows, write_pool
from vlmsift.calibrate import Calibration, calibrate
from vlmsift.demo import MODEL_PATH
from vlmsift.demo.pool import make_pool
from vlmsift.errors import RunMismatch, UsageError
from vlmsift.runs.run import Run
from vlmsift.scoring.batches import Scorer
from vlmsift.scoring.score import score
from vlmsift.selecting import select
from vlmsift.selectors import Top
from vlmsift.signals.config import load_config
from vlmsift.specs import EngineSpec
from vlmsift.tables import read_account

GRID = ["delta_attnmask", "deep=delta_attnmask:depth=0.75,rows=all", "image_gain", "image_entropy"]
HOW = {"sample": 40, "twins": 15, "grid": GRID, "engine": EngineSpec(workers=0)}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pool(tmp_path_factory.mktemp("demo") / "pool", 60, 0, spoiled=0.2)


@pytest.fixture(scope="module")
def done(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    return calibrate(pool, MODEL_PATH, tmp_path_factory.mktemp("out") / "calibration", **HOW)


def test_the_folder_holds_run_config_table_and_verdict(done):
    assert sorted(path.name for path in done.folder.iterdir()) == [
        "calibration.md",
        "calibration.yaml",
        "run",
        "table.parquet",
    ]
    text = (done.folder / "calibration.md").read_text()
    for sentence in [*done.sentences, *done.left_out]:
        assert sentence in text
    assert done.counts["originals"] == 40
    assert 1 <= done.counts["trigger_patch"] <= 15
    assert done.forwards == pytest.approx(1 + 2 * 0.8 + 2 * 0.4 + 1)
    assert done.alone > done.forwards


def test_the_table_holds_every_candidate(done):
    table = pq.read_table(done.folder / "table.parquet").to_pylist()
    assert len(table) == len(done.table) == 9
    assert {row["column"] for row in table} == {
        "delta_attnmask",
        "random_of_delta_attnmask",
        "deep",
        "random_of_deep",
        "image_gain",
        "image_entropy",
        "answer_loss",
        "random",
        "calibrated",
    }
    means = [row["auroc_mean"] for row in table]
    assert means == sorted(means, reverse=True)
    by_column = {row["column"]: row for row in table}
    assert by_column["answer_loss"]["auroc_wrong_answer"] > 0.6, "a wrong answer is hard to predict"
    assert by_column["answer_loss"]["spearman_answer_loss"] == pytest.approx(1)
    told = read_account(pq.read_schema(done.folder / "table.parquet").metadata)
    figures = next(section for section in told.sections if section.title == "Figures")
    assert [record["signal"] for record in figures.records] == [row["signal"] for row in table]


def test_copies_measure_as_their_originals(done):
    table = done.run.table(["id", "answer_loss"]).to_pandas().set_index("id")["answer_loss"]
    copies = [name for name in table.index if name.endswith("~duplicate")]
    assert len(copies) == 15
    for name in copies:
        assert table[name] == pytest.approx(table[name.removesuffix("~duplicate")], abs=1e-5)


def test_the_config_scores_what_the_calibration_weighed(done, pool, tmp_path):
    """The config's signals, scored anew on the same rows, give the numbers that the verdict was made of."""
    config = load_config(done.config)
    assert next(iter(config.signals)) == config.select["by"] == "delta_attnmask"
    assert {"hidden_mean", "answer_loss", "random", "calibrated"} <= set(config.signals)
    run = score(
        pool,
        MODEL_PATH,
        tmp_path / "run",
        signals=["delta_attnmask", "answer_loss", "image_entropy", "image_gain"],
        engine=EngineSpec(workers=0),
    )
    ours = done.run.table(["id", done.column, "answer_loss"]).to_pandas().set_index("id")
    theirs = run.table(["id", "delta_attnmask", "answer_loss"]).to_pandas().set_index("id").loc[ours.index[:40]]
    np.testing.assert_allclose(ours["answer_loss"][:40], theirs["answer_loss"], atol=1e-5)
    if done.column == "delta_attnmask":
        np.testing.assert_allclose(ours[done.column][:40], theirs["delta_attnmask"], atol=1e-5)


def test_calibrated_on_a_model_is_the_sum_that_the_weights_say(done, pool, tmp_path, monkeypatch):
    import vlmsift.signals as signals

    config = load_config(done.config)
    words = ["answer_loss", "delta_attnmask", "deep=delta_attnmask:depth=0.75,rows=all", "image_gain", "image_entropy"]
    plain = signals.build_signals(words)
    monkeypatch.setattr(signals, "build_signals", lambda asked: plain | {"calibrated": config.signals["calibrated"]})
    table = score(pool, MODEL_PATH, tmp_path / "run", engine=EngineSpec(workers=0)).table().to_pandas()
    total = np.full(len(table), config.signals["calibrated"].intercept)
    columns = {signal: column for column, signal in plain.items()}
    for part in config.signals["calibrated"].parts:
        values = table[columns[part.signal]].to_numpy(float)
        values = np.log(np.maximum(values, 1e-4)) if part.log else values
        total += np.nan_to_num(part.weight * (values - part.mean) / part.scale)
    np.testing.assert_allclose(table["calibrated"], total, atol=1e-4)


def test_a_second_start_measures_nothing_and_says_the_same(done, pool, monkeypatch):
    before = (done.config.read_bytes(), (done.folder / "calibration.md").read_bytes())
    monkeypatch.setattr(Scorer, "_batch", lambda *_: pytest.fail("it was measured again"))
    again = calibrate(pool, MODEL_PATH, done.folder, **HOW)
    assert again.sentences == done.sentences
    assert (again.config.read_bytes(), (again.folder / "calibration.md").read_bytes()) == before


def test_another_seed_or_grid_is_another_calibration(done, pool):
    with pytest.raises(RunMismatch, match=r"data\.fingerprint"):
        calibrate(pool, MODEL_PATH, done.folder, **{**HOW, "seed": 1})
    with pytest.raises(RunMismatch, match=r"signals\.deep"):
        calibrate(pool, MODEL_PATH, done.folder, **{**HOW, "grid": GRID[:1]})


def test_a_run_scored_by_the_config_is_selected_by_its_defaults(done, pool, tmp_path, monkeypatch):
    import vlmsift.signals as signals

    config = load_config(done.config)
    monkeypatch.setattr(signals, "build_signals", lambda asked: config.signals)
    run = score(pool, MODEL_PATH, tmp_path / "run", engine=EngineSpec(workers=0))
    assert len(select(run, keep="50%").ids) == len(select(run, Top(**config.select), "50%").ids) == 30
    assert "calibrated" in Run.open(tmp_path / "run").settings["identity"]["signals"]


def test_text_only_samples_are_skipped_and_counted(tmp_path):
    pool = write_pool(tmp_path, llava_rows(40, text_only=range(0, 40, 4)))
    found = calibrate(
        pool, MODEL_PATH, tmp_path / "out", sample=40, twins=10, grid=["delta_attnmask"], engine=EngineSpec(workers=1)
    )
    assert "wrong_image: 10 text-only samples have no such twin." in found.left_out
    row = next(row for row in found.table if row["column"] == "delta_attnmask")
    assert 0.7 < row["defined"] < 1


def test_the_users_folder_stays_as_it_is(done, pool):
    assert sorted(path.name for path in pool.parent.iterdir()) == ["images", "pool.json", "truth.jsonl"]
    assert len(list((pool.parent / "images").iterdir())) == 60


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"plants": ["fog"]}, "there is no plant 'fog'"),
        ({"grid": "huge"}, "there is no grid 'huge'"),
        ({"sample": 3}, "sample=3 is too small"),
        ({"probe_test": "test.json"}, "probe_test='test.json' is only read by a probe"),
        ({"grid": ["delta_attnmask:depth=12"]}, "depth=12 is outside this model's 5 layers"),
    ],
)
def test_arguments_that_cannot_be_meant_are_told_before_anything_is_written(pool, tmp_path, arguments, sentence):
    with pytest.raises(UsageError, match=sentence):
        calibrate(pool, MODEL_PATH, tmp_path / "out", **{**HOW, **arguments})
    assert not (tmp_path / "out").exists()


def test_a_pool_that_is_too_small(pool, tmp_path):
    small = write_pool(tmp_path, llava_rows(12))
    with pytest.raises(UsageError, match=r"pool.json has 12 usable samples; plants need at least 20"):
        calibrate(small, MODEL_PATH, tmp_path / "out", **HOW)


def test_a_pool_whose_images_are_gone(pool, tmp_path):
    shutil.copy(pool, tmp_path / "pool.json")
    with pytest.raises(UsageError, match="not one of the first 20 images"):
        calibrate(tmp_path / "pool.json", MODEL_PATH, tmp_path / "out", **HOW)
