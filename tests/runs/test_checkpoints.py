"""Several checkpoints as one run: which models those are, a number for each, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vlmsift
from tests.sample_pools import llava_rows, write_pool
from tests.sample_runs import make_run
from vlmsift.demo import MODEL_PATH, START_PATH
from vlmsift.errors import RunMismatch, UsageError
from vlmsift.runs.checkpoints import checkpoints_of, join
from vlmsift.runs.run import Run
from vlmsift.scoring import score as scoring
from vlmsift.specs import EngineSpec

ROWS = 10
WORDS = ["trajectory=image_spectrum", "answer_loss"]


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    rows = llava_rows(ROWS, text_only=(2,))
    rows[5]["image"] = "none.png"
    return write_pool(tmp_path / "data", rows)


def test_checkpoints_are_those_of_a_list_or_a_folder(tmp_path: Path) -> None:
    assert checkpoints_of("owner/model") == ["owner/model"]
    for name in ("checkpoint-200", "checkpoint-1000", "checkpoint-30", "logs"):
        (tmp_path / name).mkdir()
    inside = [tmp_path / f"checkpoint-{step}" for step in (30, 200, 1000)]
    assert checkpoints_of(tmp_path) == inside
    assert checkpoints_of([tmp_path, "owner/model"]) == [*inside, "owner/model"]
    (tmp_path / "config.json").write_text("{}")
    assert checkpoints_of(tmp_path) == [tmp_path], "a model that has snapshots beside its weights is a model"
    for wrong, told in (([], "an empty list"), (["a", "b", "a"], "'a' is given twice")):
        with pytest.raises(UsageError, match=told):
            checkpoints_of(wrong)


def test_a_column_per_signal_holds_a_number_per_checkpoint(pool: Path, tmp_path: Path) -> None:
    told: list[Any] = []
    models = [START_PATH, MODEL_PATH]
    run = vlmsift.score(
        pool,
        models,
        tmp_path / "run",
        signals=WORDS,
        progress=lambda s: told.append(s.done),
        engine=EngineSpec(workers=0, part_size=4),
    )
    alone = [
        vlmsift.score(pool, model, tmp_path / model.name, signals=WORDS, engine=EngineSpec(workers=0))
        for model in models
    ]
    for column, name in (("trajectory", "trajectory"), ("answer_loss", "answer_loss")):
        np.testing.assert_allclose(
            run.vector(column), np.stack([one.table([name])[name].to_numpy() for one in alone], 1), rtol=1e-5
        )
    assert told[-1] == 2 * ROWS
    rows = run.table(["status", "images", "trajectory", "answer_loss"]).to_pylist()
    assert [row["status"] for row in rows] == ["error" if place == 5 else "ok" for place in range(ROWS)]
    assert rows[2]["trajectory"] is None
    assert rows[2]["answer_loss"] is not None
    assert run.settings["info"]["model"] == [str(model) for model in models]
    assert [one["name"] for one in run.settings["identity"]["checkpoints"]] == ["start", "model"]
    kept = vlmsift.select(run, "trajectories", 4)
    assert len(kept.ids) == 4
    kept.export(tmp_path / "kept.json")
    assert len(json.loads((tmp_path / "kept.json").read_text())) == 4


def test_a_vector_of_one_number_is_a_vector(pool: Path, tmp_path: Path) -> None:
    words = ["hidden_mean:dimensions=1", "answer_loss"]
    run = vlmsift.score(pool, MODEL_PATH, tmp_path / "run", signals=words, engine=EngineSpec(workers=0))
    assert [column.is_list for column in run.columns()] == [True, False]
    np.testing.assert_allclose(
        np.abs(run.vector("hidden_mean")), [[np.nan] if row == 5 else [1] for row in range(ROWS)]
    )
    again = vlmsift.score(pool, MODEL_PATH, tmp_path / "run", signals=words, engine=EngineSpec(workers=0))
    assert again.signals_hash() == run.signals_hash()
    with pytest.raises(UsageError, match="'hidden_mean' is a vector already"):
        join([run, run], tmp_path / "joined")


def test_what_was_scored_is_not_scored_again(pool: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {"signals": WORDS, "engine": EngineSpec(workers=0, part_size=4)}
    whole = vlmsift.score(pool, [START_PATH, MODEL_PATH], tmp_path / "run", **how)
    before = whole.signals_hash()
    (tmp_path / "run" / "signals" / "part-000001.parquet").unlink()
    (tmp_path / "run" / "checkpoints" / "02" / "signals" / "part-000002.parquet").unlink()
    first = [path.stat().st_mtime_ns for path in sorted((tmp_path / "run" / "checkpoints" / "01").rglob("*.parquet"))]
    told: list[Any] = []
    again = vlmsift.score(
        pool, [START_PATH, MODEL_PATH], tmp_path / "run", progress=lambda s: told.append(s.done), **how
    )
    assert again.signals_hash() == before
    assert told[0] == ROWS
    assert min(told[1:]) >= ROWS + 8
    assert first == [
        path.stat().st_mtime_ns for path in sorted((tmp_path / "run" / "checkpoints" / "01").rglob("*.parquet"))
    ]
    shutil.rmtree(tmp_path / "run" / "signals")
    (tmp_path / "run" / "run.json").unlink()
    assert vlmsift.score(pool, [START_PATH, MODEL_PATH], tmp_path / "run", **how).signals_hash() == before


def test_other_models_and_vectors_are_refused_before_scoring(
    pool: Path, tmp_path: Path, toy_path: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_score_with", lambda *arguments: pytest.fail("it was scored for hours first"))
    with pytest.raises(UsageError, match=r"follows one model, but the checkpoints differ: .* is .* in .* and .* in "):
        vlmsift.score(pool, [START_PATH, toy_path("llava")], tmp_path / "run", signals=WORDS)
    with pytest.raises(UsageError, match=r"'hidden_mean' is a vector already, and several models are given"):
        vlmsift.score(pool, [START_PATH, MODEL_PATH], tmp_path / "run", signals=["hidden_mean"])
    with pytest.raises(UsageError, match=r"model=\[Adapter\('.*start'\), .*\] cannot be meant"):
        vlmsift.score(pool, [vlmsift.open_model(START_PATH), MODEL_PATH], tmp_path / "run", signals=WORDS)  # type: ignore[list-item]
    with pytest.raises(UsageError, match=r"there is no model folder '.*nowhere'"):
        vlmsift.score(pool, [START_PATH, tmp_path / "nowhere"], tmp_path / "run", signals=WORDS)
    make_run(tmp_path / "other", {"loss": np.arange(4)})
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("{")
    with pytest.raises(UsageError, match=r"run.json cannot be read as a run's settings .* Restore it"):
        vlmsift.score(pool, [START_PATH, MODEL_PATH], tmp_path / "damaged", signals=WORDS)
    with pytest.raises(RunMismatch, match="holds a run of one model, not of 2 checkpoints"):
        vlmsift.score(pool, [START_PATH, MODEL_PATH], tmp_path / "other", signals=WORDS)


def test_the_same_weights_twice_are_refused_when_they_are_opened(pool: Path, tmp_path: Path) -> None:
    shutil.copytree(START_PATH, tmp_path / "copy")
    with pytest.raises(RunMismatch, match=r"copy has the same weights as .*start; give each checkpoint once"):
        vlmsift.score(
            pool, [START_PATH, tmp_path / "copy"], tmp_path / "run", signals=WORDS, engine=EngineSpec(workers=0)
        )
    assert not (tmp_path / "run" / "checkpoints" / "02").exists()


def test_a_run_along_checkpoints_is_thrown_away_whole(pool: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {"signals": ["answer_loss"], "engine": EngineSpec(workers=0)}
    vlmsift.score(pool, [START_PATH, MODEL_PATH], tmp_path / "run", **how)

    def stop(state: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vlmsift.score(pool, [MODEL_PATH, START_PATH], tmp_path / "run", overwrite=True, progress=stop, **how)
    with pytest.raises(UsageError, match="no finished part"):
        Run.open(tmp_path / "run")


def of(folder: Path, weights: str, values: Any = (1.0, 2.0), **changes: Any) -> Run:
    """A finished run of 2 rows by a model of these weights."""
    model = {"name": weights, "revision": None, "weights": weights, "family": "llava", "dtype": "float32"}
    run = make_run(folder, {"loss": np.array(values)})
    identity = {**run.settings["identity"], "model": {**model, "processor": "p", **changes.pop("model", {})}, **changes}
    run.settings = {**run.settings, "identity": identity, "info": {"model": weights}}
    return run


def test_runs_that_do_not_belong_together_are_not_joined(tmp_path: Path) -> None:
    first = of(tmp_path / "a", "a")
    joined = join([first, of(tmp_path / "b", "b", (3.0, np.nan))], tmp_path / "joined")
    np.testing.assert_array_equal(joined.vector("loss"), [[1.0, 3.0], [2.0, np.nan]])
    cases: list[tuple[list[Run], str]] = [
        ([first], "1 checkpoint makes no trajectory; give at least 2"),
        ([first, of(tmp_path / "d", "d", data="other")], "were scored with other data: other and {'fingerprint': 'f'}"),
        ([first, of(tmp_path / "e", "e", model={"family": "qwen2_vl"})], "differ in family: 'qwen2_vl' and 'llava'"),
    ]
    for number, (runs, told) in enumerate(cases):
        with pytest.raises((RunMismatch, UsageError), match=told):
            join(runs, tmp_path / f"refused-{number}")
        assert not (tmp_path / f"refused-{number}").exists()


def test_an_error_at_one_checkpoint_is_an_error(tmp_path: Path) -> None:
    good = of(tmp_path / "a", "a")
    bad = make_run(tmp_path / "b", {"loss": np.array([1.0, np.nan])}, reason=[None, "out of memory: too long"])
    bad.settings = of(tmp_path / "c", "c").settings
    rows = join([good, bad], tmp_path / "joined").table(["status", "reason", "loss"]).to_pylist()
    assert [row["status"] for row in rows] == ["ok", "error"]
    assert rows[1]["reason"] == "out of memory: at c: too long"
    assert rows[1]["loss"] is None
