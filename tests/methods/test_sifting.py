"""`sift`: one call that scores, selects and exports."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vlmsift
from tests.forwards import counted_forwards
from tests.sample_pools import llava_rows, write_pool
from tests.specs import with_specs
from vlmsift.errors import FormatError, RunMismatch, UsageError
from vlmsift.methods import METHODS, tuning
from vlmsift.methods.sifting import make_method
from vlmsift.runs.spoiled import read_spoiled
from vlmsift.specs import EngineSpec, ModelSpec, PoolSpec
from vlmsift.train import train

ROWS = 24


def sift(pool: Any, model: Any, out: Any, **flat: Any) -> vlmsift.Selection:
    """`vlmsift.sift`, with the words of a method and the fields of specs as they stand on the command line."""
    words = {name: flat.pop(name) for name in ("config", "signals", "selector", "recipe", "changes") if name in flat}
    method = make_method(flat.pop("method", None), **words)
    return vlmsift.sift(**with_specs(pool=pool, model=model, out=out, method=method, **flat))


@pytest.fixture(scope="module")
def model(toy_path: Callable[[str], Path]) -> vlmsift.Adapter:
    return vlmsift.open_model(toy_path("llava"))


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return write_pool(tmp_path / "data", llava_rows(ROWS, text_only=(2,)))


@pytest.mark.parametrize("name", ["delta-attnmask", "coincide", "ifd", "random"])
def test_a_method_is_its_steps(name: str, pool: Path, model: vlmsift.Adapter, tmp_path: Path) -> None:
    selection = sift(pool, model, tmp_path / "kept.json", method=name, keep=7, seed=3, engine=EngineSpec(workers=0))
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert [row["id"] for row in kept] == [row["id"] for row in llava_rows(ROWS) if row["id"] in selection.ids]
    method = METHODS[name]
    assert selection.run.folder == tmp_path / "kept-run"
    assert [column.name for column in selection.run.columns()] == list(method.build_signals())
    assert vlmsift.select(selection.run, method.selector, 7, seed=3).ids == selection.ids
    assert len(selection.ids) == 7


def test_a_method_goes_on_and_refuses_to_mix(pool: Path, model: vlmsift.Adapter, tmp_path: Path) -> None:
    how: dict[str, Any] = {"run": tmp_path / "run", "engine": EngineSpec(workers=0), "method": "perplexity-low"}
    first = sift(pool, model, tmp_path / "a.json", keep="25%", **how)
    again = sift(pool, model, tmp_path / "b.jsonl", keep="50%", out_format="messages", **how)
    assert set(first.ids) < set(again.ids)
    assert len((tmp_path / "b.jsonl").read_text().splitlines()) == 12
    assert "messages" in json.loads((tmp_path / "b.jsonl").read_text().splitlines()[0])
    with pytest.raises(RunMismatch, match=r"signals\.answer_loss.*: in the run .*, asked for nothing"):
        sift(pool, model, tmp_path / "a.json", **{**how, "method": "el2n"})


def test_words_in_place_of_the_method_s_own(pool: Path, model: vlmsift.Adapter, tmp_path: Path) -> None:
    words: dict[str, Any] = {"signals": ["image_gain", "el2n"], "selector": "top:by=el2n,pick=lowest,balance=none"}
    made = sift(pool, model, tmp_path / "a.json", method="el2n", keep=5, **words, engine=EngineSpec(workers=0))
    assert [column.name for column in made.run.columns()] == ["image_gain", "el2n"]
    assert made.ids == vlmsift.select(made.run, words["selector"], 5).ids
    with pytest.raises(UsageError, match="leave signals and selector out"):
        sift(pool, model, tmp_path / "a.json", config="c.yaml", selector="random")
    with pytest.raises(UsageError, match="keep='clean'"):
        sift(pool, model, tmp_path / "a.json", method="el2n", keep="clean")


def test_a_data_set_may_come_out(pool: Path, model: vlmsift.Adapter, tmp_path: Path) -> None:
    sift(pool, model, f"{tmp_path}/kept/", method="random", keep=5, engine=EngineSpec(workers=0))
    assert len(vlmsift.open_pool(PoolSpec(tmp_path / "kept", images=pool.parent))) == 5
    assert (tmp_path / "kept-run" / "run.json").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"method": "delta"}, r"no method 'delta'; choose among judge-cover, "),
        ({"keep": "clear"}, r"keep='clear' is neither a share nor a count"),
        ({"method": "el2n", "trained": True}, r"el2n needs no model that was trained on the pool"),
        ({"method": "el2n", "model": ["a", "b"]}, r"el2n measures one model, and 2 are given"),
        ({"method": "el2n", "recipe": "llava-1.5"}, r"el2n fine-tunes nothing, so recipe='llava-1.5'"),
        ({"method": "bye", "trained": True, "changes": {"epochs": 2}}, r"bye: nothing is fine-tuned here"),
        ({"method": "bye", "model": ["a", "b"]}, r"bye scores the end of one training, and 2 models are given"),
        ({"method": "el2n", "selector": "top:by=ifd"}, r"el2n: top chooses by 'ifd', which is not among its signals"),
        ({"method": "xmas", "signals": ["image_spectrum"]}, r"xmas: .* 'trajectory', .*name one so, as trajectory="),
        ({"method": "xmas", "signals": ["trajectory=hidden_mean"]}, r"xmas: 'trajectory' is a vector already"),
        ({"method": "xmas", "model": []}, r"an empty list of models measures nothing"),
        ({"method": "xmas", "model": ["a", "b", "a"]}, r"the checkpoint 'a' is given twice"),
        ({"method": "xmas", "trained": True}, r"xmas needs at least 2 checkpoints .*step-N .*one epoch"),
        ({"keep": "101%"}, r"keep='101%' is not a share .*'20%', or a count from 1 to 24"),
        ({"keep": 25}, r"keep=25 asks for 25 of the run's 24 rows"),
        ({"out_format": "alpaca"}, r"no format 'alpaca'; known are llava, messages, sharegpt"),
        ({"format": "alpaca"}, r"no format 'alpaca'; known are llava, messages, sharegpt"),
        ({"out": "pool.json"}, r"pool\.json is the pool or lies in it"),
        ({"images": "no such folder"}, r"no image folder no such folder"),
    ],
)
def test_what_can_be_known_is_told_before_scoring(
    changes: dict[str, Any], told: str, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: Any, **more: Any) -> None:
        raise AssertionError("the pool was scored for hours, and only then came the error")

    monkeypatch.setattr("vlmsift.scoring.score.run_score", never)
    monkeypatch.setattr(tuning, "fine_tune", never)
    if "out" in changes:
        changes = {"out": pool}
    with pytest.raises((UsageError, FormatError), match=told):
        sift(**{"pool": pool, "model": "model", "out": tmp_path / "kept.json", **changes})
    assert not (tmp_path / "kept.json").exists()


@pytest.mark.parametrize("method", ["bye", "delta-attnmask"])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"workers": -1}, r"workers=-1 cannot be meant"),
        ({"tokens_per_batch": 0}, r"tokens_per_batch=0 cannot be meant"),
        ({"part_size": 0}, r"part_size=0 cannot be meant"),
        ({"seed": -1}, r"seed=-1 cannot be meant"),
        ({"dtype": "int8"}, r"dtype='int8' cannot be meant"),
        ({"device": "meta"}, r"meta"),
        ({"chat_template": "gone.jinja"}, r"the chat template 'gone\.jinja' cannot be read"),
        ({"model": "no/such/model"}, r"no model folder 'no/such/model'"),
        ({"proxy": "no/such/model"}, r"no model folder 'no/such/model'"),
        ({"run": "/dev/null"}, r"is a device, a pipe or a socket"),
        ({"out": "/dev/null"}, r"is a device, a pipe or a socket"),
        ({"run": "theirs"}, r"is not empty and not a run"),
        ({"out": "theirs/"}, r"holds other things"),
    ],
)
def test_no_forward_before_a_refusal(
    method: str, change: dict[str, Any], told: str, pool: Path, toy_path: Any, tmp_path: Path
) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "precious.txt").write_text("mine")
    places = {key: f"{tmp_path}/{value}" for key, value in change.items() if str(value).startswith("theirs")}
    how = {"pool": pool, "model": toy_path("llava"), "out": tmp_path / "kept.json", "method": method}
    with counted_forwards() as called, pytest.raises(UsageError, match=told):
        sift(**{**how, **change, **places})
    assert called == []
    assert (tmp_path / "theirs" / "precious.txt").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} <= {"data", "theirs"}


def test_no_forward_before_a_misspelt_keyword(pool: Path, toy_path: Any, tmp_path: Path) -> None:
    with counted_forwards() as called, pytest.raises(TypeError, match="token_per_batch"):
        sift(pool, toy_path("llava"), tmp_path / "kept.json", method="bye", token_per_batch=1)
    assert called == []


def test_no_forward_before_a_config_that_cannot_judge(pool: Path, toy_path: Any, tmp_path: Path) -> None:
    config = tmp_path / "calibration.yaml"
    config.write_text("signals: [answer_loss]\nselect: {by: answer_loss, pick: lowest}\n")
    with counted_forwards() as called, pytest.raises(UsageError, match="keep='clean'"):
        sift(pool, toy_path("llava"), tmp_path / "kept.json", config=config, keep="clean")
    assert called == []


def test_a_proxy_is_scored_in_the_place_of_the_model(pool: Path, toy_path: Any, tmp_path: Path) -> None:
    model = ModelSpec("the model that will be trained, and lies elsewhere", device="cpu", dtype="float32")
    how: dict[str, Any] = {"method": "ifd", "keep": 6, "engine": EngineSpec(workers=0)}
    made = sift(pool, model, tmp_path / "a.json", proxy=toy_path("llava"), **how)
    plain = sift(pool, toy_path("llava"), tmp_path / "b.json", **how)
    assert made.ids == plain.ids
    assert made.run.settings["info"]["device"] == "cpu"
    assert made.run.settings["identity"]["model"] == plain.run.settings["identity"]["model"]


def test_a_config_in_place_of_a_method(toy_path, tmp_path):
    pool = write_pool(tmp_path / "data", llava_rows(20))
    config = tmp_path / "calibration.yaml"
    config.write_text(
        "signals: [mine=delta_attnmask:depth=0.5, answer_loss]\nselect: {by: answer_loss, pick: lowest}\n"
    )
    chosen = sift(pool, toy_path("llava"), tmp_path / "kept.json", config=config, keep=6, engine=EngineSpec(workers=0))
    run = chosen.run
    assert set(run.settings["identity"]["signals"]) == {"mine", "answer_loss"}
    assert "answer_loss" in json.dumps(dict(chosen.made_by))
    losses = run.table(["id", "answer_loss"]).to_pandas().set_index("id").answer_loss
    kept = losses[list(chosen.ids)]
    assert len(kept) == 6
    assert kept.mean() < losses.mean()
    with pytest.raises(UsageError, match="needs no model that was trained on the pool"):
        sift(pool, toy_path("llava"), tmp_path / "kept.json", config=config, trained=True)
    with pytest.raises(UsageError, match="not both"):
        sift(pool, toy_path("llava"), tmp_path / "kept.json", config=config, method="random", keep=6)


LITTLE: dict[str, Any] = {"recipe": "llava-1.5", "changes": {"batch_size": 8}, "engine": EngineSpec(workers=0)}


def test_a_fine_tune_is_made_once_and_its_checkpoints_may_be_brought(pool: Path, toy_path: Any, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    first = sift(
        pool,
        toy_path("llava"),
        tmp_path / "a.json",
        method="xmas",
        keep=6,
        training_progress=lambda step, of, loss: told.append((step, of)),
        **LITTLE,
    )
    assert told[-1] == (3, 3)
    assert first.run.vector("trajectory").shape == (ROWS, 3)
    tuned = tmp_path / "a-run-tuned"
    assert sorted(path.name for path in (tuned / "snapshots").iterdir()) == ["step-1", "step-2", "step-3"]
    before = (tuned / "train.json").stat().st_mtime_ns
    again = sift(pool, toy_path("llava"), tmp_path / "b.json", run=tmp_path / "a-run", method="xmas", keep=6, **LITTLE)
    assert (tuned / "train.json").stat().st_mtime_ns == before
    assert again.ids == first.ids

    brought = sift(pool, tuned / "snapshots", tmp_path / "c.json", method="xmas", keep=6, engine=EngineSpec(workers=0))
    assert brought.ids == first.ids
    assert not (tmp_path / "c-run-tuned").exists()
    steps = [tuned / "snapshots" / f"step-{step}" for step in (1, 3)]
    losses = sift(pool, steps, tmp_path / "d.json", method="s2l", keep=6, engine=EngineSpec(workers=0))
    assert losses.run.vector("trajectory").shape == (ROWS, 2)
    assert len(losses.ids) == 6

    with pytest.raises(UsageError, match=r"xmas follows checkpoints, and '.*a-run-tuned' has some: give '.*snapshots'"):
        sift(pool, tuned, tmp_path / "e.json", method="xmas", keep=6)
    with pytest.raises(RunMismatch, match=r"signals\.trajectory\.signal: in the run \"image_spectrum\""):
        sift(pool, toy_path("llava"), tmp_path / "f.json", run=tmp_path / "a-run", method="s2l", keep=6, **LITTLE)
    anew = {**LITTLE, "changes": {"batch_size": 12}, "overwrite": True}
    other = sift(pool, toy_path("llava"), tmp_path / "a.json", method="xmas", keep=6, **anew)
    assert other.run.vector("trajectory").shape == (ROWS, 2)


def test_a_run_of_something_else_is_told_before_the_fine_tune(
    pool: Path, toy_path: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sift(pool, toy_path("llava"), tmp_path / "a.json", method="length", keep=6, engine=EngineSpec(workers=0))
    monkeypatch.setattr(tuning, "fine_tune", lambda *arguments, **more: pytest.fail("it was trained first"))
    with pytest.raises(RunMismatch, match=r"signals\.trajectory\.signal"):
        sift(pool, toy_path("llava"), tmp_path / "a.json", method="xmas", keep=6, **LITTLE)


def test_too_few_steps_make_no_trajectory(pool: Path, toy_path: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the fine-tune on 24 samples has 1 step of batch_size=32"):
        sift(pool, toy_path("llava"), tmp_path / "a.json", method="xmas", keep=6)
    assert not (tmp_path / "a-run-tuned").exists()


def test_a_cleaner_scores_the_end_of_a_fine_tune(pool: Path, toy_path: Any, tmp_path: Path) -> None:
    made = sift(pool, toy_path("llava"), tmp_path / "a.json", method="bye", **LITTLE)
    assert made.made_by["keep"] == "clean"
    assert (tmp_path / "a-run-tuned" / "train.json").exists()
    same = sift(
        pool,
        tmp_path / "a-run-tuned",
        tmp_path / "b.json",
        method="bye",
        trained=True,
        keep=5,
        engine=EngineSpec(workers=0),
    )
    np.testing.assert_array_equal(same.run.vector("entropy_profile"), made.run.vector("entropy_profile"))
    assert len(same.ids) == 5
    along = train(pool, toy_path("llava"), tmp_path / "along", snapshots=2, changes={"batch_size": 8, "epochs": 1})
    last = sift(
        pool, [tmp_path / "along" / "snapshots"], tmp_path / "c.json", method="bye", engine=EngineSpec(workers=0)
    )
    assert last.run.settings["info"]["model"] == str(along.snapshots[-1])
    assert not (tmp_path / "b-run-tuned").exists()


def test_a_fine_tune_that_diverges_is_refused(pool: Path, toy_path: Any, tmp_path: Path) -> None:
    wild = {**LITTLE, "changes": {"batch_size": 8, "learning_rate": 1e9, "epochs": 3}}
    with pytest.raises(UsageError, match=r"the fine-tune in .*a-run-tuned diverged .* lower learning_rate"):
        sift(pool, toy_path("llava"), tmp_path / "a.json", method="bye", **wild)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, vlmsift.Adapter]:
    """A demo pool, and the model that it is made for."""
    from vlmsift.demo import START_PATH
    from vlmsift.demo.pool import make_pool

    pool = make_pool(tmp_path_factory.mktemp("digits") / "pool", 80, 4)
    return pool, vlmsift.open_model(ModelSpec(START_PATH, device="cpu"))


def test_plants_tell_how_much_is_dropped_once(digits: tuple[Path, vlmsift.Adapter], tmp_path: Path) -> None:
    pool, model = digits
    how: dict[str, Any] = {"engine": EngineSpec(workers=0), "run": tmp_path / "run"}
    chosen = sift(pool, model, tmp_path / "a.json", **how)
    told = read_spoiled(tmp_path / "run")
    assert told is not None
    assert told.share is not None
    assert chosen.made_by["selector"] == "judge then facility_location", "it is the default"
    assert chosen.made_by["spoiled"] == told.share
    (stratum,) = chosen.made_by["strata"]
    assert stratum["judged_by"].startswith("plants told at most ")
    assert len(chosen.ids) == 16
    with counted_forwards() as forwards:
        again = sift(pool, model, tmp_path / "b.json", keep="10%", **how)
    assert forwards == [], "neither the pool nor its plants are scored again"
    assert again.made_by["spoiled"] == told.share


def test_without_plants_half_is_dropped_though_plants_have_told(
    digits: tuple[Path, vlmsift.Adapter], tmp_path: Path
) -> None:
    pool, model = digits
    how: dict[str, Any] = {"engine": EngineSpec(workers=0), "run": tmp_path / "run"}
    chosen = sift(pool, model, tmp_path / "a.json", plants=False, **how)
    assert not (tmp_path / "run" / "plants").exists()
    assert chosen.made_by["strata"][0]["judged_by"] == "drop=0.5"
    sift(pool, model, tmp_path / "b.json", **how)
    again = sift(pool, model, tmp_path / "c.json", plants=False, **how)
    assert again.ids == chosen.ids
    own = sift(pool, model, tmp_path / "d.json", selector="judge:drop=0.25 then random", **how)
    assert own.made_by["strata"][0]["judged_by"] == "drop=0.25"
