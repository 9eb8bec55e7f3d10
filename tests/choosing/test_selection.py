"""A selection on disk: as it was, readable by others, and with a way back to its pool."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.sample_runs import make_run
from vlmsift.choosing.selection import Selection
from vlmsift.errors import UsageError
from vlmsift.runs.run import Run
from vlmsift.selecting import select
from vlmsift.selectors import Top

NAN = float("nan")
BEST = Top("loss", balance="source")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "run", {"loss": [3, NAN, 1, 5]}, source=["a", "a", "b", "b"])


def test_it_comes_back_as_it_was(run: Run) -> None:
    chosen = select(run, BEST, 2)
    path = chosen.save("best")
    assert path == run.folder / "selections" / "best.parquet"
    again = Selection.load(run, "best")
    assert again == chosen
    assert (again.ids, dict(again.dropped)) == (chosen.ids, dict(chosen.dropped))
    assert again.run is run
    assert list(path.parent.iterdir()) == [path]


def test_others_can_read_it(run: Run) -> None:
    rows = pq.read_table(select(run, BEST, 2).save("best")).to_pylist()
    assert rows[0] == {"id": "s0", "index": 0, "kept": True, "rank": 2, "value": 3.0, "group": "a", "reason": None}
    assert rows[3] == {"id": "s3", "index": 3, "kept": True, "rank": 1, "value": 5.0, "group": "b", "reason": None}
    missing = {"kept": False, "rank": None, "value": None, "group": None, "reason": "loss is undefined"}
    assert rows[1] == {"id": "s1", "index": 1, **missing}
    reason = "rank 2 of 2 in group 'b', the group keeps 1"
    assert rows[2] == {**missing, "id": "s2", "index": 2, "value": 1.0, "group": "b", "reason": reason}


def test_a_name_is_written_anew(run: Run) -> None:
    select(run, BEST, 2).save("best")
    select(run, BEST, 1).save("best")
    assert len(Selection.load(run, "best").ids) == 1


def test_reasons_are_a_mapping(run: Run) -> None:
    dropped = select(run, BEST, 2).dropped
    assert (list(dropped), len(dropped), "s1" in dropped, "s3" in dropped) == (["s1", "s2"], 2, True, False)
    assert dropped["s1"] == "loss is undefined"
    assert repr(dropped) == "<2 dropped ids with reasons>"
    with pytest.raises(KeyError):
        dropped["s3"]


def test_a_selection_of_a_table_has_no_way_back(run: Run) -> None:
    chosen = select(run.table(), BEST, 2)
    assert chosen.run is None
    assert chosen.decisions.equals(select(run, BEST, 2).decisions)
    for way_back in (chosen.save, chosen.export):
        with pytest.raises(UsageError, match=r"made from a table.*Select from the run"):
            way_back("kept.json")


def test_a_run_that_does_not_name_its_pool_says_so(run: Run) -> None:
    with pytest.raises(UsageError, match="does not say which pool was scored: 'pool' is missing"):
        select(run, BEST, 2).export("kept.json")
    record = json.loads((run.folder / "run.json").read_text())
    record["info"] |= {"pool": "pool.json", "images": "images"}
    (run.folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match="'format' is missing"):
        select(run.folder, BEST, 2).export("kept.json")


@pytest.mark.parametrize("name", ["", "../best", "a/b", ".hidden", "a\nb", "x" * 101])
def test_a_name_cannot_leave_the_folder(run: Run, name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a selection"):
        Selection.load(run, name)


def test_what_is_not_there_is_named(run: Run) -> None:
    with pytest.raises(UsageError, match=r"no selection 'best'\. It has: none"):
        Selection.load(run, "best")
    select(run, BEST, 2).save("other")
    with pytest.raises(UsageError, match="It has: other"):
        Selection.load(run, "best")


@pytest.mark.parametrize("foreign", [True, False])
def test_another_file_is_not_a_selection(run: Run, foreign: bool) -> None:
    path = select(run, BEST, 2).save("best")
    if foreign:
        pq.write_table(run.table(), path)
    else:
        path.write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r"best\.parquet is not a saved selection"):
        Selection.load(run, "best")
