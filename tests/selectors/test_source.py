"""A run and a table as a selector sees them, and what neither may be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.runs import make_run, make_table, rows_of, settings
from vlmsift.errors import UsageError
from vlmsift.selectors.source import open_source
from vlmsift.store import FIXED, Run


def test_a_run_and_its_table_are_the_same(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"loss": [3, 1, 2], "gain": [0, 0, 0], "states": np.eye(3)}, source=["a", "b", None])
    whole, bare = open_source(run, ["loss"]), open_source(run.table(), ["loss"])
    assert whole.table.to_pylist() == bare.table.to_pylist()
    assert whole.table.column_names == [*FIXED.names, "loss"]
    assert list(whole.vectors) == list(bare.vectors) == ["states"]
    np.testing.assert_array_equal(whole.vectors["states"](), bare.vectors["states"]())
    assert whole.matching("gain = 0 and loss > 1").tolist() == bare.matching("gain = 0 and loss > 1").tolist() == [0, 2]
    assert (whole.digest, bare.digest) == (run.signals_hash(), None)


def test_a_table_needs_ids_and_the_signal_alone() -> None:
    source = open_source(pa.table({"id": ["a", "b"], "loss": [1, 2]}), ["loss"])
    assert source.table.select(["index", "images", "status"]).to_pylist() == [
        {"index": 0, "images": 1, "status": "ok"},
        {"index": 1, "images": 1, "status": "ok"},
    ]
    with pytest.raises(UsageError, match=r"no column 'id'.*It has: loss"):
        open_source(pa.table({"loss": [1, 2]}), ["loss"])


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (
            "concept_states",
            r"no signal 'concept_states' .*has: answer_tokens, loss.*score with --signal concept_states",
        ),
        ("trajectory", r"several checkpoints of one training: .*--signal trajectory=image_spectrum.* --method xmas"),
    ],
)
def test_a_missing_column_says_what_to_score(tmp_path: Path, column: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        open_source(make_run(tmp_path, {"loss": [1, 2]}), [column])


def test_ids_are_unique() -> None:
    with pytest.raises(UsageError, match="'b' occurs more than once"):
        open_source(make_table({"loss": [1, 2, 3]}, id=["a", "b", "b"]), ["loss"])


def test_an_unfinished_run_is_not_chosen_from(tmp_path: Path) -> None:
    run = Run.create_or_resume(tmp_path, settings(10, {"loss": 1}))
    run.write_part(1, {key: values[4:8] for key, values in rows_of({"loss": np.zeros(8)}).items()})
    with pytest.raises(UsageError, match=r"unfinished: 4 of 10 rows.*same score command again"):
        open_source(run, ["loss"])
    assert len(open_source(run.table(), ["loss"]).table) == 4


def test_answer_tokens_can_be_chosen_by(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"loss": [1, 2]}, answer_tokens=[5, 7])
    assert open_source(run, ["answer_tokens"]).table["answer_tokens"].to_pylist() == [5, 7]
