"""The table of methods, and `sift`: one call that scores, selects and exports."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vlmsift
from tests.pools import llava_rows, write_pool
from vlmsift import pipeline
from vlmsift.errors import FormatError, RunMismatch, UsageError
from vlmsift.methods import METHODS, find_method
from vlmsift.selectors.groups import BALANCES
from vlmsift.selectors.top import PICKS
from vlmsift.signals import build_signals

ROWS = 24


@pytest.fixture(scope="module")
def model(toy_path: Callable[[str], Path]) -> vlmsift.Adapter:
    return vlmsift.open_model(toy_path("llava"))


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return write_pool(tmp_path / "data", llava_rows(ROWS, text_only=(2,)))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_a_recipe_that_exists(name: str) -> None:
    method = find_method(name)
    assert method.by in build_signals(method.signals)
    assert method.pick in PICKS
    assert method.balance in BALANCES
    assert method.cost
    assert method.source
    if method.balance == "auto":
        assert "hidden_mean" in build_signals(method.signals), "clusters need a vector"


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_its_steps(name: str, pool: Path, model: vlmsift.Adapter, tmp_path: Path) -> None:
    selection = vlmsift.sift(pool, model, tmp_path / "kept.json", method=name, keep=7, seed=3, workers=0)
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert [row["id"] for row in kept] == [row["id"] for row in llava_rows(ROWS) if row["id"] in selection.ids]
    method = METHODS[name]
    assert selection.run.folder == tmp_path / "kept-run"
    assert [column.name for column in selection.run.columns()] == list(build_signals(method.signals))
    how: dict[str, Any] = {"by": method.by, "pick": method.pick, "balance": method.balance}
    assert vlmsift.select(selection.run, **how, keep=7, seed=3).ids == selection.ids
    assert len(selection.ids) == 7


def test_a_method_goes_on_and_refuses_to_mix(pool: Path, model: vlmsift.Adapter, tmp_path: Path) -> None:
    how: dict[str, Any] = {"run": tmp_path / "run", "workers": 0, "method": "answer-loss"}
    first = vlmsift.sift(pool, model, tmp_path / "a.json", keep="25%", **how)
    again = vlmsift.sift(pool, model, tmp_path / "b.jsonl", keep="50%", format="messages", **how)
    assert set(first.ids) < set(again.ids)
    assert len((tmp_path / "b.jsonl").read_text().splitlines()) == 12
    assert "messages" in json.loads((tmp_path / "b.jsonl").read_text().splitlines()[0])
    with pytest.raises(RunMismatch, match=r"signals\.answer_loss.*: in the run .*, asked for nothing"):
        vlmsift.sift(pool, model, tmp_path / "a.json", **{**how, "method": "el2n"})


def test_a_data_set_may_come_out(pool: Path, model: vlmsift.Adapter, tmp_path: Path) -> None:
    vlmsift.sift(pool, model, f"{tmp_path}/kept/", method="random", keep=5, workers=0)
    assert len(vlmsift.open_pool(tmp_path / "kept", images=pool.parent)) == 5
    assert (tmp_path / "kept-run" / "run.json").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"method": "delta"}, r"no method 'delta'; choose among delta-attnmask, "),
        ({"keep": "101%"}, r"keep='101%' is not a share .*'20%' or a count from 1 to 24"),
        ({"keep": 25}, r"keep=25 asks for 25 of the run's 24 rows"),
        ({"format": "alpaca"}, r"no format 'alpaca'; known are llava, messages, sharegpt"),
        ({"pool_format": "alpaca"}, r"no format 'alpaca'; known are llava, messages, sharegpt"),
        ({"out": "pool.json"}, r"pool\.json is the pool itself; name another file"),
        ({"images": "no such folder"}, r"no image folder no such folder"),
    ],
)
def test_what_can_be_known_is_told_before_scoring(
    changes: dict[str, Any], told: str, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: Any, **more: Any) -> None:
        raise AssertionError("the pool was scored for hours, and only then came the error")

    monkeypatch.setattr(pipeline, "score", never)
    if "out" in changes:
        changes = {"out": pool}
    with pytest.raises((UsageError, FormatError), match=told):
        vlmsift.sift(**{"pool": pool, "model": "model", "out": tmp_path / "kept.json", **changes})
    assert not (tmp_path / "kept.json").exists()


def test_a_config_in_place_of_a_method(toy_path, tmp_path):
    pool = write_pool(tmp_path / "data", llava_rows(20))
    config = tmp_path / "calibration.yaml"
    config.write_text(
        "signals: [mine=delta_attnmask:depth=0.5, answer_loss]\nselect: {by: answer_loss, pick: lowest}\n"
    )
    chosen = vlmsift.sift(pool, toy_path("llava"), tmp_path / "kept.json", config=config, keep=6, workers=0)
    run = chosen.run
    assert set(run.settings["identity"]["signals"]) == {"mine", "answer_loss"}
    assert "answer_loss" in json.dumps(dict(chosen.made_by))
    losses = run.table(["id", "answer_loss"]).to_pandas().set_index("id").answer_loss
    kept = losses[list(chosen.ids)]
    assert len(kept) == 6
    assert kept.mean() < losses.mean()
    with pytest.raises(UsageError, match="not both"):
        vlmsift.sift(pool, toy_path("llava"), tmp_path / "kept.json", config=config, method="random", keep=6)
