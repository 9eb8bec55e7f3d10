"""From a pool to an exported file, by the Python API: what comes out, what is resumed and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import vlmsift
from tests.sample_pools import SIGNALS, Row, llava_rows, picture, write_pool
from tests.specs import with_specs
from vlmsift.errors import RunMismatch, UsageError
from vlmsift.runs.run import Run
from vlmsift.scoring.score import Progress
from vlmsift.specs import EngineSpec, PoolSpec

ROWS = 40
TEXT_ONLY = (5, 20, 33)
SCORING: dict[str, Any] = {"signals": SIGNALS, "part_size": 16, "workers": 0}


@pytest.fixture(scope="module")
def model(toy_path: Callable[[str], Path]) -> vlmsift.Adapter:
    return vlmsift.open_model(toy_path("llava"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pool; its name has spaces and letters beyond ASCII."""
    folder = tmp_path_factory.mktemp("pipeline") / "mein Pool Größe 1"
    write_pool(folder, llava_rows(ROWS, TEXT_ONLY))
    return folder


@pytest.fixture(scope="module")
def run(home: Path, model: vlmsift.Adapter) -> Run:
    return scored(home / "pool.json", model, home / "the run", **SCORING)


def scored(pool: Path, model: Any, out: Path, **how: Any) -> Run:
    return vlmsift.score(**with_specs(pool=pool, model=model, out=out, **how))


def kept_rows(home: Path, selection: vlmsift.Selection, dropped: bool = False) -> list[Row]:
    rows = json.loads((home / "pool.json").read_text())
    return [row for row in rows if (row["id"] in selection.dropped) == dropped]


def test_every_row_is_scored(run: Run) -> None:
    rows = run.table().to_pylist()
    assert [row["id"] for row in rows] == [f"r{index}" for index in range(ROWS)]
    assert run.summary() == {
        "rows": ROWS,
        "missing": 0,
        "not_asked": 0,
        "ok": ROWS,
        "text_only": 3,
        "errors": {},
        "undefined": {"delta_attnmask": 3, "answer_loss": 0, "image_attention": 3, "hidden_mean": 0, "random": 0},
    }
    for index, row in enumerate(rows):
        assert row["images"] == (index not in TEXT_ONLY)
        assert (row["delta_attnmask"] is None) == (row["image_attention"] is None) == (index in TEXT_ONLY)
        assert row["answer_loss"] > 0
        assert len(row["hidden_mean"]) == 8
    assert rows[0]["answer_key"] == "yes"
    assert rows[2]["answer_key"] == "ein bär sitzt im wald"


@pytest.mark.parametrize("keep", [7, "20%", "100%"])
def test_kept_rows_equal_the_originals(home: Path, run: Run, keep: str | int, tmp_path: Path) -> None:
    selection = vlmsift.select(run, keep=keep)
    assert len(selection.ids) == {7: 7, "20%": 8, "100%": ROWS}[keep]
    assert {*selection.ids, *selection.dropped} == {f"r{index}" for index in range(ROWS)}
    expected = kept_rows(home, selection)
    out = selection.export(tmp_path / "kept.json")
    assert json.loads(out.read_text()) == expected
    lines = selection.export(tmp_path / "kept.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == expected
    assert [list(json.loads(line)) for line in lines] == [list(row) for row in expected]
    assert [row["id"] for row in pq.read_table(selection.export(tmp_path / "kept.parquet")).to_pylist()] == [
        row["id"] for row in expected
    ]


@pytest.mark.parametrize("format", ["messages", "sharegpt"])
def test_rows_in_another_format_mean_the_same(home: Path, run: Run, format: str, tmp_path: Path) -> None:
    selection = vlmsift.select(run, keep=9)
    written = vlmsift.open_pool(PoolSpec(selection.export(tmp_path / "kept.json", format=format), images=home))
    assert written.format == format
    source = {sample.id: sample for sample in map(vlmsift.open_pool(home / "pool.json").__getitem__, range(ROWS))}
    samples = [written[index] for index in range(len(written))]
    assert {sample.id for sample in samples} == set(selection.ids)
    for sample in samples:
        assert (sample.turns, sample.images) == (source[sample.id].turns, source[sample.id].images)


def test_the_dropped_rows_are_the_others(home: Path, run: Run, tmp_path: Path) -> None:
    selection = vlmsift.select(run, "top:balance=none", 0.5)
    out = selection.export(tmp_path / "dropped.json", dropped=True)
    assert json.loads(out.read_text()) == kept_rows(home, selection, dropped=True)
    assert all(selection.dropped.values())


def test_a_run_records_how_to_make_it_again(home: Path, run: Run) -> None:
    record = json.loads((run.folder / "run.json").read_text())
    assert record["info"]["pool"] == str(home / "pool.json")
    assert record["identity"]["model"]["family"] == "llava"
    assert record["identity"]["signals"]["delta_attnmask"]["parameters"]["depth"] == 0.5
    assert {"torch", "transformers", "vlmsift"} <= record["info"]["versions"].keys()


class Stopped(Exception):
    """What the progress callback of a test raises to stop a run."""


def test_a_stopped_run_goes_on_to_the_same_numbers(
    home: Path, run: Run, model: vlmsift.Adapter, tmp_path: Path
) -> None:
    states: list[Progress] = []

    def stop(state: Progress) -> None:
        if state.done > 20:
            raise Stopped

    def note(state: Progress) -> None:
        states.append(Progress(**vars(state)))

    with pytest.raises(Stopped):
        scored(home / "pool.json", model, tmp_path / "run", **SCORING, progress=stop)
    half = Run.open(tmp_path / "run")
    assert half.finished_parts() == {0}
    with pytest.raises(UsageError, match=r"unfinished: 16 of 40 rows are scored\. Start the same score command again"):
        vlmsift.select(half)
    again = scored(home / "pool.json", model, tmp_path / "run", **SCORING, progress=note)
    assert again.table().equals(run.table())
    assert again.signals_hash() == run.signals_hash()
    assert (states[0].done, states[-1].done, states[-1].total) == (16, ROWS, ROWS)
    assert [state.done for state in states] == sorted(state.done for state in states)


def test_a_finished_run_is_left_alone(home: Path, run: Run, model: vlmsift.Adapter) -> None:
    before = {path: path.stat().st_mtime_ns for path in (run.folder / "signals").iterdir()}
    states: list[int] = []
    scored(home / "pool.json", model, run.folder, **SCORING, progress=lambda state: states.append(state.done))
    assert {path: path.stat().st_mtime_ns for path in (run.folder / "signals").iterdir()} == before
    assert states == [ROWS]


def test_worker_processes_change_nothing(home: Path, run: Run, model: vlmsift.Adapter, tmp_path: Path) -> None:
    other = scored(home / "pool.json", model, tmp_path / "run", **{**SCORING, "workers": 2})
    assert other.signals_hash() == run.signals_hash()


@pytest.fixture
def copy(home: Path, run: Run, tmp_path: Path) -> Path:
    """The pool and its finished run in a place of their own, where they may be changed."""
    shutil.copytree(home, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_run_goes_on_with_parts_of_its_size_where_none_is_asked_for(copy: Path, model: vlmsift.Adapter) -> None:
    (copy / "the run" / "signals" / "part-000001.parquet").unlink()
    again = scored(copy / "pool.json", model, copy / "the run", **{**SCORING, "part_size": None})
    assert again.part_size == 16
    assert len(again.table()) == ROWS


def test_parts_are_larger_in_a_large_pool() -> None:
    assert [EngineSpec().rows_per_part(rows) for rows in (1, 1_000_000, 1_000_001)] == [512, 512, 4096]
    assert EngineSpec(part_size=7).rows_per_part(2_000_000) == 7


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"signals": ["delta_attnmask:depth=0.25", *SIGNALS[1:]]}, r"parameters\.depth: in the run 0\.5, .* 0\.25"),
        ({"signals": [*SIGNALS, "el2n"]}, r"signals\.el2n\.signal: in the run nothing, asked for \"el2n\""),
        ({"part_size": 20}, "part_size: in the run 16, asked for 20"),
        ({"format": "sharegpt"}, r"data\.format: in the run \"llava\", asked for \"sharegpt\""),
    ],
)
def test_other_parameters_are_refused(copy: Path, model: vlmsift.Adapter, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(RunMismatch, match=told) as caught:
        scored(copy / "pool.json", model, copy / "the run", **{**SCORING, **changes})
    assert "--overwrite" in str(caught.value)
    assert len(str(caught.value).splitlines()) < 12


def test_other_data_is_refused(copy: Path, model: vlmsift.Adapter) -> None:
    text = (copy / "pool.json").read_text()
    (copy / "pool.json").write_text(text.replace("Wald", "Feld", 1))
    with pytest.raises(RunMismatch, match=r"data\.fingerprint: in the run .*, asked for"):
        scored(copy / "pool.json", model, copy / "the run", **SCORING)
    with pytest.raises(RunMismatch, match=r"pool\.json is not the pool that .* --pool"):
        vlmsift.select(copy / "the run").export(copy / "kept.json", pool=copy / "pool.json")
    assert not (copy / "kept.json").exists()


def test_other_images_are_refused(copy: Path, model: vlmsift.Adapter) -> None:
    (copy / "images" / "3.png").write_bytes(picture(99))
    with pytest.raises(RunMismatch, match=r"data\.first_images: in the run .*, asked for"):
        scored(copy / "pool.json", model, copy / "the run", **SCORING)


def test_another_model_is_refused_and_overwriting_takes_it(copy: Path, toy_path: Callable[[str], Path]) -> None:
    before = Run.open(copy / "the run").table()
    other = vlmsift.open_model(toy_path("llava"))
    other.head.__self__.model.get_output_embeddings().weight.mul_(2)
    with pytest.raises(RunMismatch, match=r"model\.weights: in the run \"\w+\", asked for \"\w+\"") as caught:
        scored(copy / "pool.json", other, copy / "the run", **SCORING)
    assert "model.name" not in str(caught.value)
    vlmsift.select(copy / "the run")
    after = scored(copy / "pool.json", other, copy / "the run", **SCORING, overwrite=True).table()
    assert after["id"].equals(before["id"])
    assert not after["answer_loss"].equals(before["answer_loss"])


def test_what_changes_no_number_may_change(copy: Path, toy_path: Callable[[str], Path], tmp_path: Path) -> None:
    moved = shutil.copytree(toy_path("llava"), tmp_path / "elsewhere" / "llava")
    how = {**SCORING, "workers": 1, "tokens_per_batch": 100}
    assert scored(copy / "pool.json", moved, copy / "the run", **how).summary()["ok"] == ROWS


def test_a_moved_pool_is_named_at_export(copy: Path, home: Path, tmp_path: Path) -> None:
    record = json.loads((copy / "the run" / "run.json").read_text())
    record["info"]["pool"] = str(tmp_path / "gone.json")
    (copy / "the run" / "run.json").write_text(json.dumps(record))
    selection = vlmsift.select(copy / "the run", keep=5)
    with pytest.raises(UsageError, match=r"gone\.json is no longer there; name its new place with --pool"):
        selection.export(tmp_path / "kept.json")
    out = selection.export(tmp_path / "kept.json", pool=copy / "pool.json")
    assert json.loads(out.read_text()) == kept_rows(home, selection)


def test_export_needs_no_images(copy: Path, tmp_path: Path) -> None:
    record = json.loads((copy / "the run" / "run.json").read_text())
    record["info"] |= {"pool": str(copy / "pool.json"), "images": str(copy / "no such folder")}
    (copy / "the run" / "run.json").write_text(json.dumps(record))
    assert len(json.loads(vlmsift.select(copy / "the run", keep=5).export(tmp_path / "k.json").read_text())) == 5


def test_an_export_that_fails_leaves_the_old_file(home: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "kept.json").write_text("old")
    selection = vlmsift.select(run, keep=5)
    with pytest.raises(UsageError, match="no format 'alpaca'; known are llava, messages, sharegpt"):
        selection.export(tmp_path / "kept.json", format="alpaca")
    with pytest.raises(UsageError, match="lies in it"):
        selection.export(home / "pool.json")
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]
    assert (tmp_path / "kept.json").read_text() == "old"


def test_some_missing_images_are_no_wrong_folder(model: vlmsift.Adapter, tmp_path: Path) -> None:
    pool = write_pool(tmp_path, llava_rows(24))
    for index in range(19):
        (tmp_path / "images" / f"{index}.png").unlink()
    run = scored(pool, model, tmp_path / "run", **SCORING)
    assert run.summary()["errors"] == {"missing image": 19}


def test_draws_and_lengths_cost_no_forward(
    tmp_path: Path, toy_path: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = write_pool(tmp_path / "data", llava_rows(6))
    whole = vlmsift.score(
        pool, toy_path("llava"), tmp_path / "a", signals=["answer_loss", "random"], engine=EngineSpec(workers=0)
    )
    monkeypatch.setattr("vlmsift.scoring.batches.measure", lambda *arguments: pytest.fail("a forward was run"))
    cheap = vlmsift.score(
        pool, toy_path("llava"), tmp_path / "b", signals=["random", "answer_tokens"], engine=EngineSpec(workers=0)
    )
    columns = ["id", "status", "random", "answer_tokens"]
    assert cheap.table(columns).equals(whole.table(columns))
    none = vlmsift.score(pool, toy_path("llava"), tmp_path / "c", signals={}, engine=EngineSpec(workers=0))
    assert none.table(columns[:2]).equals(whole.table(columns[:2]))
