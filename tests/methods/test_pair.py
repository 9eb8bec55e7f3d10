"""`sift --proxy SMALL --share PART`: a small model scores all, the large one a share, and the run tells the rest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vlmsift
from tests.forwards import counted_forwards
from tests.sample_pools import llava_rows, write_pool
from vlmsift.cli import main
from vlmsift.errors import RunMismatch, UsageError
from vlmsift.methods.pair import parse_share
from vlmsift.proxy import MEASURED
from vlmsift.runs.run import Run
from vlmsift.runs.spoiled import read_spoiled
from vlmsift.scoring.score import Progress
from vlmsift.specs import EngineSpec, ModelSpec

ROWS = 110
LITTLE: dict[str, Any] = {"keep": 20, "share": "50%", "plants": False, "engine": EngineSpec(workers=0)}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pool(tmp_path_factory.mktemp("pool"), llava_rows(ROWS, text_only=(2, 30)))


@pytest.fixture(scope="module")
def small(toy_path: Callable[[str], Path]) -> ModelSpec:
    return ModelSpec(toy_path("llava"), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def large(toy_path: Callable[[str], Path]) -> ModelSpec:
    """Of another family: other tokens, other layers."""
    return ModelSpec(toy_path("gemma3"), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def made(
    pool: Path, small: ModelSpec, large: ModelSpec, tmp_path_factory: pytest.TempPathFactory, states: list[Progress]
) -> Any:
    out = tmp_path_factory.mktemp("made") / "kept.json"
    return vlmsift.sift(pool, large, out, proxy=small, progress=states.append, **{**LITTLE, "plants": True})


@pytest.fixture(scope="module")
def states() -> list[Progress]:
    """What was told of the progress while the run was `made`."""
    return []


def test_the_run_holds_what_both_tell(made: vlmsift.Selection) -> None:
    assert made.run is not None
    folder = made.run.folder
    proxy, share = (Run.open(folder.with_name(f"{folder.name}-{name}")) for name in ("proxy", "share"))
    asked = [row for row, name in enumerate(made.run.table(["id"])["id"].to_pylist()) if hashed(name) < "8"]
    assert share.query("status = 'ok'").tolist() == asked
    assert [column.name for column in share.columns()] == ["surprise", "delta_attnmask"]
    assert [column.name for column in made.run.columns()] == ["surprise", "delta_attnmask", "hidden_mean", MEASURED]
    assert {"el2n", "entropy", "image_attention"} < {column.name for column in proxy.columns()}, "no forward more"
    np.testing.assert_array_equal(made.run.vector("hidden_mean"), proxy.vector("hidden_mean"))
    predicted = made.run.settings["identity"]["predicted"]
    assert predicted["proxy"]["signals"] == proxy.signals_hash()
    assert predicted["asked"]["where"] == "md5(id) < '80000000'"
    told = made.run.settings["identity"]["signals"]["surprise"]["predicted"]
    assert told["rows"] == len(asked)
    whole = share if told["by"] == "trees" else proxy
    rows = made.run.table(["surprise"])["surprise"].to_numpy()[asked]
    np.testing.assert_array_equal(rows, whole.table(["surprise"])["surprise"].to_numpy()[asked])
    assert read_spoiled(folder) == read_spoiled(proxy.folder) is not None, "planted twins were the proxy's to judge"
    assert not (share.folder / "plants").exists()
    assert len(made.ids) == 20
    assert made.ids == vlmsift.select(made.run, "judge then facility_location", 20).ids
    cost = made.run.settings["info"]["cost"]
    assert cost["proxy"]["rows"] == ROWS
    assert cost["target"]["rows"] == len(asked)
    assert cost["proxy"]["parameters"] != cost["target"]["parameters"]


def test_progress_is_told_of_both_as_one(made: vlmsift.Selection, states: list[Progress]) -> None:
    assert made.run is not None
    asked = made.run.settings["identity"]["predicted"]["asked"]["rows"]
    assert (states[0].total, states[-1].total, states[-1].done) == (ROWS, ROWS + asked, ROWS + asked)
    done = [state.done for state in states]
    assert done == sorted(done)


def hashed(name: str) -> str:
    return hashlib.md5(name.encode()).hexdigest()


def test_the_same_again_asks_no_model(
    made: vlmsift.Selection, pool: Path, small: ModelSpec, large: ModelSpec, tmp_path: Path
) -> None:
    assert made.run is not None
    with counted_forwards() as forwards:
        again = vlmsift.sift(
            pool, large, tmp_path / "b.json", proxy=small, run=made.run.folder, **{**LITTLE, "plants": True, "keep": 30}
        )
    assert forwards == []
    assert len(again.ids) == 30


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"proxy": None}, r"share='50%' is of the rows that the model scores beside a proxy; give proxy too"),
        ({"share": "a few"}, r"share='a few' is no share from 0 to below 100%; give one such as '5%'"),
        ({"share": 1.0}, r"share=1\.0 is no share"),
        ({"share": -0.1}, r"share=-0\.1 is no share"),
        ({"share": float("nan")}, r"share=nan is no share"),
        ({"share": "5%"}, r"the share is about 5 of 110 rows, and 50 .* larger share, or 0 for the proxy alone"),
        ({"method": "xmas"}, r"xmas follows a fine-tune of the proxy"),
        ({"method": "random"}, r"random chooses by no number"),
        ({"method": "facility-location"}, r"facility-location chooses by no number"),
        ({"model": ["a", "b"]}, r"no model folder 'a'"),
        ({"model": "no/such/model"}, r"no model folder 'no/such/model'"),
        ({"proxy": "no/such/model"}, r"no model folder 'no/such/model'"),
    ],
)
def test_what_can_be_known_is_told_before_scoring(
    changes: dict[str, Any], told: str, pool: Path, small: ModelSpec, large: ModelSpec, tmp_path: Path
) -> None:
    given = {"pool": pool, "model": large, "out": tmp_path / "kept.json", "proxy": small, **LITTLE, **changes}
    with counted_forwards() as forwards, pytest.raises(UsageError, match=told):
        vlmsift.sift(**given)
    assert forwards == []
    assert list(tmp_path.iterdir()) == []


def test_other_runs_in_the_way_are_told_before_scoring(
    pool: Path, small: ModelSpec, large: ModelSpec, tmp_path: Path
) -> None:
    how = {**LITTLE, "method": "perplexity-low"}
    vlmsift.sift(pool, small, tmp_path / "kept.json", **{**how, "share": 0})
    with counted_forwards() as forwards, pytest.raises(RunMismatch, match=r"kept-run holds a run that one model meas"):
        vlmsift.sift(pool, large, tmp_path / "kept.json", proxy=small, **how)
    vlmsift.score(pool, large, tmp_path / "a-run-share", signals=["el2n"], engine=EngineSpec(workers=0))
    with counted_forwards() as forwards, pytest.raises(RunMismatch, match=r"a-run-share holds .*\n.*signals\.el2n"):
        vlmsift.sift(pool, large, tmp_path / "a.json", proxy=small, **how)
    assert forwards == []
    assert not (tmp_path / "a-run-proxy").exists()


def test_another_share_is_another_run(pool: Path, small: ModelSpec, large: ModelSpec, tmp_path: Path) -> None:
    how = {**LITTLE, "method": "perplexity-low"}
    first = vlmsift.sift(pool, large, tmp_path / "kept.json", proxy=small, **how)
    with pytest.raises(RunMismatch, match=r"asked\.where: in the run \"md5\(id\) < '80000000'\""):
        vlmsift.sift(pool, large, tmp_path / "kept.json", proxy=small, **{**how, "share": 0.6})
    other = vlmsift.sift(pool, large, tmp_path / "kept.json", proxy=small, overwrite=True, **{**how, "share": 0.6})
    assert first.run is not None
    assert other.run is not None
    asked = [made.settings["identity"]["predicted"]["asked"]["rows"] for made in (first.run, other.run)]
    assert asked[0] < asked[1]
    assert other.run.finished_parts() == {0}


def test_a_share_of_nothing_is_the_proxy_alone(pool: Path, small: ModelSpec, tmp_path: Path) -> None:
    how = {**LITTLE, "method": "perplexity-low", "share": "0%"}
    alone = vlmsift.sift(pool, "the model that will be trained, elsewhere", tmp_path / "a.json", proxy=small, **how)
    plain = vlmsift.sift(pool, small, tmp_path / "b.json", **how)
    assert alone.ids == plain.ids


def test_the_command_line_tells_agreement_and_cost(
    pool: Path, small: ModelSpec, large: ModelSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ["--model", str(large.model), "--proxy", str(small.model), "--device", "cpu", "--dtype", "float32"]
    words = ["--method", "perplexity-low", "--share", "50%", "--keep", "10", "--workers", "0"]
    with pytest.raises(SystemExit) as ending:
        main(["sift", str(pool), *models, *words, "--out", str(tmp_path / "kept.json")])
    said = capsys.readouterr().out
    assert ending.value.code in (0, None), said
    assert "answer_loss: " in said
    assert "agreement" in said
    assert "scoring took 1 forwards of 110 rows by the proxy" in said
    assert "% of the target scoring every row" in said
    assert len(json.loads((tmp_path / "kept.json").read_text())) == 10


def test_a_share_is_read_as_it_is_written() -> None:
    assert [str(parse_share(text)) for text in ("5%", 0.05, "0.05", 0, " 12.5 % ")] == [
        "0.05",
        "0.05",
        "0.05",
        "0",
        "0.125",
    ]
