"""What a part tells of itself: the same as its rows say, and as a part of an earlier version that tells nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.sample_runs import make_run
from vlmsift.runs import run as run_module
from vlmsift.runs.part_facts import KEY, digest
from vlmsift.runs.run import IDENTITY, Run

NAN = float("nan")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    reasons = ["missing image: a", None, None, "no answer", "missing image: b", None, None]
    signals = {"loss": [1, NAN, 3, 4, 5, 6, NAN], "states": np.arange(14).reshape(7, 2)}
    return make_run(tmp_path / "run", signals, part_size=3, reason=reasons, images=[1, 0, 1, 0, 1, 1, 1])


def test_sums_and_hash_read_no_rows_and_are_those_of_parts_that_tell_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "facts_of", lambda *given: pytest.fail("rows were read"))
        summary, found = run.summary(), run.signals_hash()
    assert summary == {
        "rows": 7,
        "missing": 0,
        "not_asked": 0,
        "ok": 4,
        "text_only": 2,
        "errors": {"missing image": 2, "no answer": 1},
        "undefined": {"loss": 2, "states": 0},
    }
    for file in (run.folder / "signals").iterdir():  # as an earlier version wrote them
        pq.write_table(pq.read_table(file).replace_schema_metadata({IDENTITY: run._digest}), file, compression="gzip")
        assert KEY not in pq.read_metadata(file).metadata
    assert (run.summary(), run.signals_hash()) == (summary, found)


def test_each_value_counts_in_the_hash(tmp_path: Path) -> None:
    plain: dict[str, Any] = {"signals": {"loss": [1, 2], "states": [[1, 2], [3, 4]]}, "id": ["a", "b"]}
    others: list[dict[str, Any]] = [
        {"signals": {"loss": [1, 3], "states": [[1, 2], [3, 4]]}},
        {"signals": {"loss": [1, NAN], "states": [[1, 2], [3, 4]]}},
        {"signals": {"loss": [1, 2], "states": [[1, 2], [3, 5]]}},
        {"signals": {"loss": [1, 2], "states": [[1, 2], [3, NAN]]}},
        {"id": ["a", "c"]},
        {"id": ["ab", ""]},
        {"source": ["x", None]},
        {"source": [None, "x"]},
    ]
    made = [make_run(tmp_path / str(place), **{**plain, **other}) for place, other in enumerate([{}, {}, *others])]
    hashes = [run.signals_hash() for run in made]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == len(hashes) - 1


@pytest.mark.parametrize(
    "values",
    [
        ["ab", "c", ""],
        ["ab", None, "c", "", "é"],
        [[1.0, 2.0], None, [3.0, None], []],
        [1, None, 3],
        [None, None],
        [True, False],
    ],
)
def test_a_digest_is_of_values_not_of_how_they_lie(values: list[Any]) -> None:
    kind = pa.list_(pa.float32()) if isinstance(values[0], list) else pa.array(values).type
    whole = pa.array(values, kind)
    assert digest(whole) == digest(pa.array([values[0], *values], kind).slice(1))
    assert digest(whole) == digest(pa.chunked_array([whole.slice(0, 1), whole.slice(1)]))
    assert digest(whole) != digest(pa.array(values[::-1], kind)) or values == values[::-1]
