"""A run and a table as a selector sees them, and what neither may be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.sample_runs import make_run, make_table, rows_of, settings
from vlmsift.choosing.run_columns import open_columns
from vlmsift.errors import UsageError
from vlmsift.runs.run import Run
from vlmsift.selecting import select
from vlmsift.selectors import SemDeDup, Top


def test_a_run_and_its_table_are_the_same(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"loss": [3, 1, 2], "gain": [0, 0, 0], "states": np.eye(3)}, source=["a", "b", None])
    for columns in (open_columns(run, ["loss"]), open_columns(run.table(), ["loss"])):
        assert columns.number("loss").tolist() == [3, 1, 2]
        assert columns.coded("source").names == ["a", "b"]
        assert columns.coded("source").codes.tolist() == [0, 1, 2]
        assert columns.ids.to_pylist() == ["s0", "s1", "s2"]
        assert list(columns.vectors) == ["states"]
        np.testing.assert_array_equal(columns.vectors["states"](), np.eye(3))
        assert columns.matching("gain = 0 and loss > 1").tolist() == [True, False, True]
        assert columns.matching("loss > 3").tolist() == [False] * 3


def test_a_table_is_taken_in_the_order_of_its_index() -> None:
    table = make_table({"loss": [1, 2, 3], "states": np.eye(3)}, index=np.array([7, 3, 5]), reason=["x", None, None])
    columns = open_columns(table, ["loss"])
    assert columns.number("loss").tolist() == [2, 3, 1]
    assert columns.failed.tolist() == [False, False, True]
    assert columns.vectors["states"]()[0].tolist() == [0, 1, 0]
    assert columns.matching("loss > 1").tolist() == [True, True, False]
    chosen = select(table, Top("loss", balance="none"), 1)
    assert chosen.decisions["index"].to_pylist() == [3, 5, 7]
    assert (chosen.ids, chosen.dropped["s0"]) == (("s2",), "x")


def test_a_table_needs_ids_and_the_signal_alone() -> None:
    columns = open_columns(pa.table({"id": ["a", "b"], "loss": [1, 2]}), ["loss"])
    assert [columns.text_only.tolist(), columns.failed.tolist()] == [[False, False]] * 2
    assert [batch["index"].to_pylist() for batch in columns.batches(["index"])] == [[0, 1]]
    with pytest.raises(UsageError, match=r"no column 'id'.*It has: loss"):
        open_columns(pa.table({"loss": [1, 2]}), ["loss"])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            "gain",
            r"no signal 'gain' to choose by\. The run has: answer_tokens, loss, states\. Choose by one of them, or "
            r"score with --signal gain \(one forward per sample.*\), into a run of its own",
        ),
        (
            "trajectory",
            r"several checkpoints .*`vlmsift train .*--snapshots 7 .*--model OUT/snapshots .*image_spectrum`",
        ),
    ],
)
def test_a_missing_column_says_what_to_score_and_what_that_costs(tmp_path: Path, column: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_columns(make_run(tmp_path, {"loss": [1, 2], "states": np.eye(2)}), [column])


def test_in_place_of_a_vector_only_vectors_are_named(tmp_path: Path) -> None:
    message = (
        r"no vector 'last_state' to choose by\. The run has: states\. Choose by one of them, or score with --signal"
    )
    with pytest.raises(UsageError, match=message):
        select(make_run(tmp_path / "a", {"loss": [1, 2], "states": np.eye(2)}), SemDeDup(), 1)
    with pytest.raises(UsageError, match=r"The run has: none\. Score with --signal last_state"):
        select(make_run(tmp_path / "b", {"loss": [1, 2]}), SemDeDup(), 1)
    with pytest.raises(UsageError, match=r"no signal 'gain' .*has: answer_tokens, states\."):
        select(make_run(tmp_path / "c", {"states": np.eye(2)}), Top("gain", vector="states"), 1)


def test_an_unfinished_run_is_not_chosen_from(tmp_path: Path) -> None:
    run = Run.create_or_resume(tmp_path, settings(10, {"loss": 1}))
    run.write_part(1, {key: values[4:8] for key, values in rows_of({"loss": np.zeros(8)}).items()})
    with pytest.raises(UsageError, match=r"unfinished: 4 of 10 rows.*same score command again"):
        open_columns(run, ["loss"])
    assert len(open_columns(run.table(), ["loss"])) == 4


def test_answer_tokens_can_be_chosen_by(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"loss": [1, 2]}, answer_tokens=[5, 7])
    assert open_columns(run, ["answer_tokens"]).number("answer_tokens").tolist() == [5, 7]
