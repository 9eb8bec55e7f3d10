"""The run folder: complete parts whatever happens, resumed only by the same settings, read back as written."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.sample_runs import make_run, rows_of, settings
from vlmsift import files, folders
from vlmsift.errors import RunMismatch, UsageError
from vlmsift.runs.beginning import check_run_folder, drop_parts, recorded
from vlmsift.runs.checkpoints import check_checkpoints
from vlmsift.runs.columns import FIXED, Column
from vlmsift.runs.query import as_vectors, matching
from vlmsift.runs.run import Run
from vlmsift.selecting import select
from vlmsift.selectors import Top

NAN = float("nan")


def test_values_come_back_as_written(tmp_path: Path) -> None:
    vectors = [[1, 2, 3], [NAN, NAN, NAN], [4, NAN, 6], [0, 0, 0], [7, 8, 9]]
    reasons = [None, "image cannot be read: a.png", None, None, None]
    run = make_run(tmp_path / "run", {"loss": [0.5, NAN, 0, -1, 2], "states": vectors}, part_size=2, reason=reasons)
    table = Run.open(tmp_path / "run").table()
    assert table.column_names == [*FIXED.names, "loss", "states"]
    assert table["id"].to_pylist() == ["s0", "s1", "s2", "s3", "s4"]
    assert table["loss"].to_pylist() == [0.5, None, 0.0, -1.0, 2.0]
    assert table["states"].to_pylist() == [[1, 2, 3], None, [4, None, 6], [0, 0, 0], [7, 8, 9]]
    assert table["status"].to_pylist() == ["ok", "error", "ok", "ok", "ok"]
    np.testing.assert_array_equal(run.vector("states"), np.array(vectors, np.float32))
    assert table.schema.field("loss").type == pa.float32()
    assert run.columns() == [Column("loss", 1, "nats", "more"), Column("states", 3, "nats", "more")]


def test_vectors_that_are_undefined_in_a_whole_part(tmp_path: Path) -> None:
    vectors = [[NAN, NAN], [NAN, NAN], [1, 2]]
    run = make_run(tmp_path, {"states": vectors}, part_size=2)
    np.testing.assert_array_equal(run.vector("states"), vectors)
    assert as_vectors(run.table()["states"][:2]).shape == (2, 1)
    with pytest.raises(UsageError, match="different lengths"):
        as_vectors(pa.chunked_array([[[1.0], [1.0, 2.0]]]))


def test_columns_are_chosen_and_unknown_ones_named(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"loss": [1, 2]})
    assert run.table(["loss", "id"]).column_names == ["loss", "id"]
    with pytest.raises(UsageError, match=r"no column 'lost'.*loss"):
        run.table(["lost"])
    with pytest.raises(UsageError, match="no vector signal 'loss'"):
        run.vector("loss")


def test_rows_of_a_part_come_in_any_order(tmp_path: Path) -> None:
    run = Run.create_or_resume(tmp_path / "a", settings(3, {"loss": 1}))
    mixed = rows_of({"loss": [2, 0, 1]}, index=np.array([2, 0, 1]), id=["s2", "s0", "s1"])
    run.write_part(0, mixed)
    assert run.signals_hash() == make_run(tmp_path / "b", {"loss": [0, 1, 2]}).signals_hash()


def test_the_hash_sees_every_value(tmp_path: Path) -> None:
    first, second = (make_run(tmp_path / name, {"loss": [1, 2, 3, 4, 5, last]}) for name, last in (("a", 6), ("b", 7)))
    assert first.signals_hash() != second.signals_hash()


def test_answer_tokens_as_a_signal_is_the_fixed_column(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"answer_tokens": [3, NAN], "loss": [1, 2]})
    assert run.schema.names.count("answer_tokens") == 1
    assert run.table()["answer_tokens"].to_pylist() == [3, None]
    with pytest.raises(UsageError, match="cannot be called 'source'"):
        Run.create_or_resume(tmp_path / "other", settings(2, {"source": 1}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"index": np.array([0, 1])}, "takes rows 0 to 2"),  # a row is missing
        ({"index": np.array([0, 1, 1])}, "takes rows 0 to 2"),
        ({"loss": np.zeros(2)}, re.escape("takes (3,) values, got (2,)")),
        ({"states": np.zeros((3, 5))}, re.escape("takes (3, 2) values")),
        ({"extra": np.zeros(3)}, "'extra'"),
        ({"status": ["ok", "error", "ok"]}, "without a reason: .'s1'"),
    ],
)
def test_a_part_that_is_not_whole_is_refused(tmp_path: Path, change: dict[str, object], said: str) -> None:
    run = Run.create_or_resume(tmp_path, settings(3, {"loss": 1, "states": 2}))
    rows = {**rows_of({"loss": np.zeros(3), "states": np.zeros((3, 2))}), **change}
    with pytest.raises(ValueError, match=said):
        run.write_part(0, rows)
    with pytest.raises(ValueError, match="'loss' is missing"):
        run.write_part(0, rows_of({"states": np.zeros((3, 2))}))
    assert run.finished_parts() == set()
    assert list(tmp_path.glob("signals/*")) == []


def test_the_same_settings_resume_and_sessions_are_listed(tmp_path: Path) -> None:
    asked = settings(8, {"loss": 1}, depth=(0.5, 1))
    run = Run.create_or_resume(tmp_path, asked)
    run.write_part(1, {key: values[4:] for key, values in rows_of({"loss": np.zeros(8)}).items()})
    again = Run.create_or_resume(tmp_path, {**asked, "info": {"device": "cuda"}})
    assert again.finished_parts() == {1}
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["schema"] == 2
    assert record["info"] == {"device": "cpu"}
    assert {session["device"] for session in again.sessions()} == {"cpu", "cuda"}
    assert len(list(tmp_path.glob("sessions/*.json"))) == len(again.sessions()) == 2
    assert again.settings == record == run.settings, "run.json is written once"
    assert run.settings["identity"] == record["identity"]


def test_other_settings_are_refused_with_each_difference(tmp_path: Path) -> None:
    Run.create_or_resume(tmp_path, settings(8, {"loss": 1}, model={"path": "a", "dtype": "bf16"}, layers=[1, 2]))
    with pytest.raises(RunMismatch) as caught:
        Run.create_or_resume(tmp_path, settings(8, {"loss": 1, "gain": 1}, model={"path": "b", "dtype": "bf16"}, p=1))
    text = str(caught.value)
    assert 'model.path: in the run "a", asked for "b"' in text
    assert "layers: in the run [1, 2], asked for nothing" in text
    assert "p: in the run nothing, asked for 1" in text
    assert "signals.gain.width: in the run nothing, asked for 1" in text
    assert "dtype" not in text
    assert "--out" in text
    assert "--overwrite" in text


def test_overwrite_begins_anew_in_a_run_and_nowhere_else(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"loss": np.zeros(8)})
    assert select(run, Top("loss"), 2).save("old").exists()
    (run.folder / "selections" / "mine.parquet").touch()
    (run.folder / "notes.txt").write_text("mine")
    anew = Run.create_or_resume(run.folder, settings(4, {"gain": 1}), overwrite=True)
    assert anew.finished_parts() == set()
    kept = ["mine.parquet", "notes.txt", "run.json"]
    there = [path for path in run.folder.rglob("*") if path.is_file() and path.parent.name != "sessions"]
    assert sorted(path.name for path in there) == kept
    assert len(anew.sessions()) == 1
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"not empty and not a run \(it holds 'thesis.tex'\)"):
            Run.create_or_resume(tmp_path / "thesis", settings(4, {"gain": 1}), overwrite=overwrite)
    assert (tmp_path / "thesis" / "thesis.tex").exists()


@pytest.mark.parametrize("way", ["a run.json", "a part", "a part of another run"])
def test_overwrite_throws_nothing_away_that_is_not_proven_to_be_ours(way: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = make_run(folder, {"loss": np.zeros(8)})
    told = r"part-000001\.parquet is not a part of the run there, so nothing is thrown away"
    if way == "a run.json":
        told = r"run\.json cannot be read as a run's settings \(Object missing required field `schema`\)"
        (folder / "run.json").write_text('{"experiment": "theirs"}')
    elif way == "a part":
        (folder / "signals" / "part-000001.parquet").write_text("theirs")
    else:
        other = make_run(tmp_path / "other", {"loss": np.zeros(8), "gain": np.zeros(8)})
        shutil.copy(other.folder / "signals" / "part-000001.parquet", folder / "signals")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for throw in (
        lambda: Run.create_or_resume(folder, settings(4, {"gain": 1}), overwrite=True),
        lambda: check_run_folder(folder, overwrite=True),
        lambda: drop_parts(folder),
        lambda: check_checkpoints(folder, 2, overwrite=True),
    ):
        with pytest.raises(UsageError, match=told):
            throw()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert run.folder == folder


def test_what_can_be_no_run_folder_is_told_by_what_is_recorded(tmp_path: Path) -> None:
    """So it is told before a model is opened."""
    assert recorded(tmp_path / "new") == recorded(tmp_path) == {}
    assert recorded(make_run(tmp_path / "run", {"loss": [1]}).folder)["rows"] == 1
    (tmp_path / "file").touch()
    for place, told in ((tmp_path, "not empty and not a run"), (tmp_path / "file", "is a file")):
        with pytest.raises(UsageError, match=told):
            recorded(place)


def test_leftovers_of_a_killed_start_are_ignored_and_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    ending = f"{files._machine()}.{dead.pid}.0123abcd.tmp"
    for name in (f".run.json.{ending}", f".run.json.elsewhere-0.{dead.pid}.0123abcd.tmp"):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / name).write_text("{")
    run = Run.create_or_resume(tmp_path / "run", settings(8, {"loss": 1}))
    (run.folder / "signals").mkdir()
    (run.folder / "signals" / f".part-000000.parquet.{ending}").write_bytes(b"PAR1")
    (run.folder / "mine.tmp").touch()
    assert run.finished_parts() == set()
    Run.create_or_resume(run.folder, settings(8, {"loss": 1}))
    left = sorted(path.name for path in run.folder.rglob("*.tmp"))
    assert left == [f".run.json.elsewhere-0.{dead.pid}.0123abcd.tmp", "mine.tmp"]


STARTER = """
import os, sys, time, numpy as np
from tests.sample_runs import rows_of, settings
from vlmsift.runs.run import Run
folders, start = sys.argv[2:], sys.argv[1]
open(start + "." + str(os.getpid()), "x")
while not os.path.exists(start):
    time.sleep(0.0005)
for folder in folders:
    run = Run.create_or_resume(folder, settings(40, {"states": 8}, 4))
    for part in range(10):
        if part not in run.finished_parts():
            index = part * 4 + np.arange(4)
            run.write_part(part, rows_of({"states": np.full((4, 8), part)}, index=index, id=[f"s{i}" for i in index]))
"""


def test_two_starters_end_with_the_same_finished_run(tmp_path: Path) -> None:
    folders = [tmp_path / f"run-{number}" for number in range(12)]
    command = [sys.executable, "-c", STARTER, str(tmp_path / "start"), *map(str, folders)]
    starters = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    while len(list(tmp_path.glob("start.*"))) < 2 and all(one.poll() is None for one in starters):
        time.sleep(0.01)
    (tmp_path / "start").touch()
    assert [one.communicate()[1] for one in starters] == ["", ""]
    index = np.arange(40)
    alone = make_run(tmp_path / "alone", {"states": np.repeat(index // 4, 8).reshape(40, 8)})
    for folder in folders:
        assert Run.open(folder).signals_hash() == alone.signals_hash()
        assert {path.name for path in folder.rglob("*.*") if path.parent.name != "sessions"} == {
            path.name for path in alone.folder.rglob("*.*") if path.parent.name != "sessions"
        }
        assert len(Run.open(folder).sessions()) == 2


@pytest.mark.parametrize("moment", ["listed", "written"])
def test_another_starter_comes_in_between(moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, put_new, listdir = settings(8, {"gain": 1}), folders.LocalFolder.put_new, os.listdir

    def begin() -> None:
        monkeypatch.undo()
        Run.create_or_resume(tmp_path / "run", other)

    def listed(path: Path) -> list[str]:
        begin()
        return ["signals"]  # a list is not of one moment: the run.json before it may be missing

    def written(self: folders.LocalFolder, name: str, content: bytes) -> bool:
        begin()
        return put_new(self, name, content)

    for asked in (settings(8, {"loss": 1}), other):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        (tmp_path / "run").mkdir()
        if moment == "listed":
            monkeypatch.setattr("vlmsift.runs.run.os.listdir", listed)
        else:
            monkeypatch.setattr(folders.LocalFolder, "put_new", written)
        if asked is other:
            assert len(Run.create_or_resume(tmp_path / "run", asked).sessions()) == 2
        else:
            with pytest.raises(RunMismatch, match=r"signals\.gain\.width: in the run 1, asked for nothing"):
                Run.create_or_resume(tmp_path / "run", asked)
    assert os.listdir is listdir


def test_a_vector_of_width_one_stays_a_vector(tmp_path: Path) -> None:
    asked = settings(3, {"states": 1, "loss": 1})
    asked["identity"]["signals"]["states"]["vector"] = True
    run = Run.create_or_resume(tmp_path, asked)
    run.write_part(0, rows_of({"states": [[1], [NAN], [3]], "loss": [1, NAN, 3]}))
    read = Run.open(tmp_path)
    assert read.table(["states", "loss"]).to_pylist() == [
        {"states": [1.0], "loss": 1.0},
        {"states": None, "loss": None},
        {"states": [3.0], "loss": 3.0},
    ]
    np.testing.assert_array_equal(read.vector("states"), [[1], [NAN], [3]])
    assert read.query("loss > 1").tolist() == [2]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no run.json"),
        ("{", "cannot be read as a run's settings"),
        ("[]", "cannot be read as a run's settings"),
        ('{"schema": 3}', "newer vlmsift"),
        ('{"schema": 1, "identity": {"rows": 2, "part_size": 1, "signals": {}}, "info": {}}', "field `data`"),
        (json.dumps({"schema": 1, "sessions": [], **settings(2, {})}), "no finished part"),
    ],
)
def test_what_is_no_run_is_not_opened(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(UsageError, match=said):
        Run.open(tmp_path)


def test_a_missing_folder_and_a_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such run folder"):
        Run.open(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        Run.create_or_resume(tmp_path / "file", settings(1, {"loss": 1}))


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"loss": np.zeros(8)})
    path = tmp_path / "signals" / "part-000001.parquet"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UsageError, match=r"part-000001\.parquet(?s:.*)Delete that part"):
        run.table()


WRITER = """
import sys, numpy as np
from tests.sample_runs import rows_of, settings
from vlmsift.runs.run import Run
run = Run.create_or_resume(sys.argv[1], settings(10**6, {"states": 64}, 500))
for part in range(2000):
    rows = rows_of({"states": np.full((500, 64), part)}, index=part * 500 + np.arange(500))
    run.write_part(part, rows)
    print(part, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
@pytest.mark.parametrize("moment", [0.0, 0.013, 0.031])
def test_killed_at_any_instant_its_parts_are_whole(tmp_path: Path, moment: float) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    writer.stdout.readline()
    time.sleep(moment)
    writer.kill()
    announced = 1 + len(writer.stdout.read().split())
    writer.wait()
    run = Run.open(tmp_path / "run")
    done = run.finished_parts()
    assert set(range(announced)) <= done
    for part in done:
        table = pq.read_table(run.folder / "signals" / f"part-{part:06d}.parquet")
        assert (len(table), table["states"][-1].as_py()) == (500, [part] * 64)


def test_summary_counts(tmp_path: Path) -> None:
    run = make_run(
        tmp_path,
        {"delta": [1, NAN, NAN, NAN, 2, 3, 4, 5], "states": [[1, 1]] * 7 + [[NAN, NAN]]},
        reason=[None, "no answer", "image cannot be read: a", "image cannot be read: b", None, None, None, None],
        images=[1, 1, 1, 1, 0, 2, 1, 1],
    )
    expected = {
        "rows": 8,
        "missing": 0,
        "not_asked": 0,
        "ok": 5,
        "text_only": 1,
        "errors": {"image cannot be read": 2, "no answer": 1},
        "undefined": {"delta": 0, "states": 1},
    }
    assert run.summary() == expected
    (tmp_path / "signals" / "part-000000.parquet").unlink()
    assert (run.summary()["missing"], run.summary()["ok"]) == (4, 4)
    shutil.rmtree(tmp_path / "signals")
    assert (run.summary()["missing"], run.summary()["ok"]) == (8, 0)


@pytest.fixture
def scored(tmp_path: Path) -> Run:
    signals = {"delta": [3, 1, NAN, 2, 5], "states": [[1, 2]] * 5}
    return make_run(tmp_path, signals, source=["x", "y", None, "x", "it's"])


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("delta > 1.5", [0, 3, 4]),
        ("delta > (select avg(delta) from run)", [0, 4]),
        ("source = 'it''s' or delta is null", [2, 4]),
        ("true -- all", [0, 1, 2, 3, 4]),
        ("not delta > 1.5", [1]),
        ("delta > 100", []),
        ("index in (3, 1)", [1, 3]),
    ],
)
def test_query_finds_rows(scored: Run, where: str, rows: list[int]) -> None:
    assert scored.query(where).tolist() == rows


@pytest.mark.parametrize(
    "where",
    [
        "",
        "delta >",
        "delta > 1, true",
        "true; drop view run",
        "true; select 1",
        "true) union select 1 from (select 1 where (true",
        "true order by 1",
        "true limit 1",
        "true /*",
        "exists (select * from read_csv('/etc/passwd'))",
        "exists (select * from read_text('/etc/passwd'))",
        "exists (select * from '/etc/passwd')",
        "exists (select * from scalars)",  # a Python variable in reach
        "true) union (select * from run where true",
        "true) or (true",
        "states is not null",
        "sum(delta) > 1",
        "id",
        "delta > 'much'",
        "depth > 1",
    ],
)
def test_query_takes_a_condition_and_nothing_else(scored: Run, where: str) -> None:
    with pytest.raises(UsageError, match=r"(?s)is not a condition on this run: .*Columns: index, id, .*delta"):
        scored.query(where)


@pytest.mark.parametrize(
    "where",
    [
        "(with recursive r as (select 1 as n union all select n + 1 from r) select count(*) from r) > 0",
        "(select count(*) from run a, run b, run c, run d, range(1000000000) where a.delta + b.delta < d.delta) > 0",
    ],
)
def test_a_query_without_an_end_is_ended(scored: Run, where: str) -> None:
    started = time.monotonic()
    with pytest.raises(UsageError, match=r"did not end within 0\.5 seconds\. Leave out a subquery"):
        matching(scored.table(), where, seconds=0.5)
    assert time.monotonic() - started < 30


def test_a_query_that_needs_more_memory_than_it_may_is_refused(scored: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlmsift.runs.query.MEMORY", "50MB")
    with pytest.raises(UsageError, match=r"takes more than 50MB\. Leave out a subquery"):
        scored.query("(select count(distinct i) from range(100000000) t(i)) > 0")


def test_a_run_from_before_questions_were_kept_is_read_and_may_be_overwritten(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"loss": [1, 2, 3, 4, 5, 6, 7, 8]}, question=["why"] * 8)
    for path in (run.folder / "signals").iterdir():
        table = pq.read_table(path)
        pq.write_table(table.drop_columns(["question"]), path)
    earlier = Run.open(run.folder)
    assert earlier.table(["question"])["question"].null_count == 8
    assert earlier.table(["loss"])["loss"].to_pylist() == [1, 2, 3, 4, 5, 6, 7, 8]
    Run.create_or_resume(run.folder, settings(4, {"loss": 1}), overwrite=True)
    assert not list((run.folder / "signals").iterdir())
