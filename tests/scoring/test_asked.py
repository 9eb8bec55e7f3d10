"""`score(where=..., of=...)`: the rows that are asked are measured as ever, the others say so and are never chosen."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vlmsift
from tests.forwards import counted_forwards
from tests.sample_pools import llava_rows, write_pool
from vlmsift.errors import RunMismatch, UsageError
from vlmsift.runs.run import Run
from vlmsift.scoring.asked import ask as ask_rows
from vlmsift.scoring.score import Progress
from vlmsift.specs import EngineSpec, ModelSpec

ROWS = 40
SMALL = EngineSpec(workers=0, part_size=16)
LOW = "answer_loss <= (SELECT median(answer_loss) FROM run)"


@pytest.fixture(scope="module")
def model(toy_path: Callable[[str], Path]) -> vlmsift.Adapter:
    return vlmsift.open_model(toy_path("llava"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool whose row 3 has an image that does not exist, and whose row 5 has none."""
    rows = llava_rows(ROWS, text_only=(5,))
    rows[3]["image"] = "images/gone.png"
    folder = tmp_path_factory.mktemp("pool")
    write_pool(folder, [{**row, "image": "images/1.png"} if row["id"] == "r3" else row for row in rows])
    (folder / "pool.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture(scope="module")
def small(home: Path, model: vlmsift.Adapter) -> Run:
    """The earlier run, in parts of another size."""
    engine = EngineSpec(workers=0, part_size=12)
    return vlmsift.score(
        home / "pool.json", model, home / "small", signals=["answer_loss", "image_gain"], engine=engine
    )


@pytest.fixture(scope="module")
def full(home: Path, model: vlmsift.Adapter) -> Run:
    return vlmsift.score(home / "pool.json", model, home / "full", signals=WORDS, engine=SMALL)


WORDS = ["delta_attnmask:depth=0.5", "answer_loss", "hidden_mean:dimensions=8"]


def ask(home: Path, model: Any, out: Path, small: Any, where: str | None = LOW, **how: Any) -> Run:
    how = {"signals": WORDS, "engine": SMALL, **how}
    return vlmsift.score(home / "pool.json", model, out, where=where, of=small, **how)


def test_the_asked_rows_are_those_of_a_full_run(
    home: Path, model: vlmsift.Adapter, small: Run, full: Run, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    where = f"{LOW} OR id = 'r3'"
    run = ask(home, model, tmp_path / "run", small, where, progress=lambda state: seen.append(Progress(**vars(state))))
    asked = set(small.query(where).tolist())
    assert 15 < len(asked) < 25
    assert (seen[0].total, seen[0].done, seen[-1].done) == (len(asked), 0, len(asked))
    rows, all_rows = run.table().to_pylist(), full.table().to_pylist()
    for row, other in zip(rows, all_rows, strict=True):
        if row["index"] in asked:
            for name, value in other.items():  # batches differ, and with them the last bits
                near = value if value is None or isinstance(value, str) else pytest.approx(value, rel=1e-4, abs=1e-6)
                assert row[name] == near, name
        else:
            assert row["status"] == "not asked"
            assert row["reason"] == f"not asked: not ({where})"
            assert row["answer_loss"] is row["delta_attnmask"] is row["hidden_mean"] is row["answer_tokens"] is None
            for name in ("index", "id", "source", "answer_key", "question", "images"):
                assert row[name] == other[name], name
    assert rows[3]["status"] == "error", "it was asked, and cannot be read"
    summary = run.summary()
    assert (summary["not_asked"], summary["ok"]) == (ROWS - len(asked), len(asked) - 1)
    assert list(summary["errors"].values()) == [1]
    assert run.settings["identity"]["asked"]["where"] == where


def test_only_asked_rows_see_the_model(home: Path, model: vlmsift.Adapter, small: Run, tmp_path: Path) -> None:
    few = "id IN ('r1', 'r39')"  # of the first and the last of three parts
    with counted_forwards() as forwards:
        run = ask(home, model, tmp_path / "run", small, few)
    assert forwards.count("LlavaForConditionalGeneration") <= 6  # two parts, and the proofs
    assert run.finished_parts() == {0, 1, 2}
    with counted_forwards() as forwards:
        ask(home, model, tmp_path / "run", small, few)
    assert forwards == [], "nothing is left to do"


def test_a_stopped_run_goes_on_to_the_same_bytes(
    home: Path, model: vlmsift.Adapter, small: Run, tmp_path: Path
) -> None:
    whole = ask(home, model, tmp_path / "run", small)
    before = whole.signals_hash()
    (tmp_path / "run" / "signals" / "part-000001.parquet").unlink()
    assert ask(home, model, tmp_path / "run", small.folder).signals_hash() == before


def test_other_rows_are_another_run(home: Path, model: vlmsift.Adapter, small: Run, tmp_path: Path) -> None:
    ask(home, model, tmp_path / "run", small, "id < 'r2'")
    for where, of in ((LOW, small), (None, None)):
        with (
            counted_forwards() as forwards,
            pytest.raises(RunMismatch, match=r"asked\.where: in the run \"id < 'r2'\""),
        ):
            ask(home, model, tmp_path / "run", of, where)
        assert forwards == []
    over = ask(home, model, tmp_path / "run", small, "id = 'r2'", overwrite=True)
    assert over.summary()["not_asked"] == ROWS - 1


def test_what_was_not_asked_is_never_chosen(home: Path, model: vlmsift.Adapter, small: Run, tmp_path: Path) -> None:
    run = ask(home, model, tmp_path / "run", small)
    asked = {f"r{row}" for row in small.query(LOW).tolist()}
    chosen = vlmsift.select(run, "top:by=answer_loss,balance=none", "25%")
    assert len(chosen.ids) == 10
    assert set(chosen.ids) < asked
    assert chosen.made_by["ruled_out"] == {"not asked": ROWS - len(asked)}
    assert chosen.dropped["r3"] == f"not asked: not ({LOW})"
    with pytest.raises(
        UsageError, match=rf"budget is 30 rows, but only {len(asked)} of 40 .*{ROWS - len(asked)} not as"
    ):
        vlmsift.select(run, "top:by=answer_loss,balance=none", 30)


def test_what_is_asked_travels_to_other_processes(home: Path, small: Run) -> None:
    fingerprint = small.settings["identity"]["data"]["fingerprint"]
    asked = ask_rows(vlmsift.open_pool(home / "pool.json"), fingerprint, small, LOW, home / "elsewhere")
    again = copy.deepcopy(asked)  # as a pickle does it
    assert again.identity() == asked.identity()
    assert again.within(range(16, 32)) == asked.within(range(16, 32)) != []
    assert again.of.rows(14, 17, ["id"])["id"].to_pylist() == ["r14", "r15", "r16"]


def test_a_cascade_may_go_on(home: Path, model: vlmsift.Adapter, small: Run, tmp_path: Path) -> None:
    second = ask(home, model, tmp_path / "second", small)
    third = ask(home, model, tmp_path / "third", second, "status = 'not asked'")
    measured = [run.table(["status"])["status"].to_numpy(zero_copy_only=False) == "ok" for run in (second, third)]
    assert not np.any(measured[0] & measured[1])
    assert third.table(["question"])["question"].null_count == 0, "known from the first run, by way of the second"


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"where": None}, r"of='.*small' has no condition; give both: --where CONDITION --of RUN"),
        ({"small": None}, r"where='answer_loss .* names no run that it is about; give both"),
        ({"where": "loss < 2"}, r"where='loss < 2' is not a condition on this run: .* Columns: index, id"),
        ({"where": "answer_loss < -1"}, r"where='answer_loss < -1' holds for none of the 40 rows of .*small"),
        ({"small": "nowhere"}, r"nowhere: there is no such run folder"),
        ({"out": "small", "overwrite": True}, r"small is the run that --of names; name another folder"),
    ],
)
def test_what_cannot_be_meant_is_told_before_a_model_is_opened(
    how: dict[str, Any], told: str, home: Path, small: Run, toy_path: Callable[[str], Path], tmp_path: Path
) -> None:
    given: dict[str, Any] = {"small": small.folder, "out": tmp_path / "run", **how}
    given["out"] = home / given["out"] if given["out"] == "small" else given["out"]
    before = small.signals_hash()
    with counted_forwards() as forwards, pytest.raises(UsageError, match=told):
        ask(home, ModelSpec(toy_path("llava"), device="cpu"), **given)
    assert forwards == []
    assert small.signals_hash() == before


def test_a_run_of_other_data_or_half_a_run_is_refused(
    home: Path, model: vlmsift.Adapter, small: Run, tmp_path: Path
) -> None:
    other = write_pool(tmp_path / "other", llava_rows(ROWS))
    with pytest.raises(RunMismatch, match=r"small was scored on other data than .*other"):
        vlmsift.score(other, model, tmp_path / "run", where="true", of=small, signals=["answer_loss"], engine=SMALL)
    shutil.copytree(small.folder, tmp_path / "half")
    (tmp_path / "half" / "signals" / "part-000002.parquet").unlink()
    with pytest.raises(UsageError, match=r"half is unfinished: 3 of 4 parts are there"):
        ask(home, model, tmp_path / "run", tmp_path / "half")
    assert not (tmp_path / "run").exists()
