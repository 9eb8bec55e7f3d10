"""A selection on disk: as it was, readable by others, and never another's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.sample_runs import make_run
from vlmsift.errors import UsageError
from vlmsift.runs.run import Run
from vlmsift.selectors import load, save, select
from vlmsift.types import Selection

NAN = float("nan")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "run", {"loss": [3, NAN, 1, 5]}, source=["a", "a", "b", "b"])


def test_it_comes_back_as_it_was(run: Run) -> None:
    chosen = select(run, "loss", 2, balance="source")
    path = save(chosen, run, "best")
    assert path == run.folder / "selections" / "best.parquet"
    again = load(run, "best")
    assert again == chosen
    assert (again.ids, dict(again.dropped), again.made_by) == (chosen.ids, dict(chosen.dropped), chosen.made_by)
    assert again.decisions.equals(chosen.decisions)
    assert list(path.parent.iterdir()) == [path]


def test_others_can_read_it(run: Run) -> None:
    rows = pq.read_table(save(select(run, "loss", 2, balance="source"), run, "best")).to_pylist()
    assert rows[0] == {"id": "s0", "index": 0, "kept": True, "rank": 2, "value": 3.0, "group": "a", "reason": None}
    assert rows[3] == {"id": "s3", "index": 3, "kept": True, "rank": 1, "value": 5.0, "group": "b", "reason": None}
    missing = {"kept": False, "rank": None, "value": None, "group": None, "reason": "loss is undefined"}
    assert rows[1] == {"id": "s1", "index": 1, **missing}
    reason = "rank 2 of 2 in group 'b', the group keeps 1"
    assert rows[2] == {
        "id": "s2",
        "index": 2,
        "kept": False,
        "rank": None,
        "value": 1.0,
        "group": "b",
        "reason": reason,
    }


def test_a_name_is_written_anew(run: Run) -> None:
    save(select(run, "loss", 2), run, "best")
    save(select(run, "loss", 1), run, "best")
    assert len(load(run, "best").ids) == 1


def test_reasons_are_a_mapping(run: Run) -> None:
    dropped = select(run, "loss", 2).dropped
    assert (list(dropped), len(dropped), "s1" in dropped, "s3" in dropped) == (["s1", "s2"], 2, True, False)
    assert dropped["s1"] == "loss is undefined"
    assert repr(dropped) == "<2 dropped ids with reasons>"
    with pytest.raises(KeyError):
        dropped["s3"]


def test_a_selection_made_by_hand_is_saved_too(run: Run) -> None:
    by_hand = Selection(("s3", "s0"), {"s1": "dull", "s2": "dull"}, {"selector": "me"})
    save(by_hand, run, "mine")
    again = load(run, "mine")
    assert (again.ids, dict(again.dropped), again.made_by) == (by_hand.ids, by_hand.dropped, by_hand.made_by)
    assert again.decisions["rank"].to_pylist() == [2, None, None, 1]


@pytest.mark.parametrize(
    "change",
    [{"ids": ("s3", "s9")}, {"dropped": {"s1": "dull"}}, {"ids": ("s3", "s0", "s1")}, {"ids": ("s3", "s0", "s9")}],
)
def test_a_selection_of_another_run_is_refused(run: Run, change: dict[str, object]) -> None:
    by_hand = Selection(("s3", "s0"), {"s1": "dull", "s2": "dull"}, {})
    with pytest.raises(UsageError, match=r"not one of .*kept or have a reason"):
        save(dataclasses.replace(by_hand, **change), run, "mine")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "../best", "a/b", ".hidden", "a\nb", "x" * 101])
def test_a_name_cannot_leave_the_folder(run: Run, name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a selection"):
        load(run, name)


def test_what_is_not_there_is_named(run: Run) -> None:
    with pytest.raises(UsageError, match=r"no selection 'best'\. It has: none"):
        load(run, "best")
    save(select(run, "loss", 2), run, "other")
    with pytest.raises(UsageError, match="It has: other"):
        load(run, "best")


@pytest.mark.parametrize("foreign", [True, False])
def test_another_file_is_not_a_selection(run: Run, foreign: bool) -> None:
    path = save(select(run, "loss", 2), run, "best")
    if foreign:
        pq.write_table(run.table(), path)
    else:
        path.write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r"best\.parquet is not a saved selection"):
        load(run, "best")
