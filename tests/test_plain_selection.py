"""`select` against the same rules in plain Python: nulls, ties, groups, strata, conditions, runs and tables."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plain_selection import compare, plain
from tests.sample_runs import make_run
from vlmsift.choosing import run_columns
from vlmsift.errors import UsageError
from vlmsift.runs.run import Run
from vlmsift.selecting import select
from vlmsift.selectors import Random, Top

SELECTORS: list[Any] = [
    Top("loss", "highest", "answer", min_group=2),
    Top("loss", "lowest", "source"),
    Top("loss", "highest", "none"),
    Top("loss", "band", "answer", low=0.5, high=3.0, min_group=3),
    Random(),
]


@st.composite
def runs(draw: st.DrawFn) -> dict[str, Any]:
    """Columns of 1 to 60 rows with all that makes a choice hard."""
    count = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    loss = rng.integers(-2, 4, count) / 2
    loss[rng.random(count) < 0.15] = np.nan
    loss[rng.random(count) < 0.1] = -0.0
    return {
        "signals": {"loss": loss},
        "part_size": draw(st.integers(1, 20)),
        "id": [f"id {row}" for row in rng.permutation(count)],
        "images": rng.integers(0, 3, count).astype(np.int32),
        "source": [["a", "b", "é", None][row] for row in rng.integers(0, 4, count)],
        "answer_key": [["yes", "no", "7", None][row] for row in rng.integers(0, 4, count)],
        "question": [["is there a cat", "how many", None][row] for row in rng.integers(0, 3, count)],
        "reason": ["broken: so" if bad else None for bad in rng.random(count) < 0.1],
    }


@pytest.mark.parametrize("selector", SELECTORS, ids=repr)
@settings(deadline=None, max_examples=12)
@given(columns=runs(), data=st.data())
def test_the_choice_is_that_of_plain_python(selector: Any, columns: dict[str, Any], data: Any) -> None:
    how: dict[str, Any] = {
        "text_only": data.draw(st.sampled_from(["same-rate", "keep", "drop"])),
        "seed": data.draw(st.integers(0, 3)),
    }
    bound = data.draw(st.sampled_from([None, -1, 0.5]))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_columns, "_PIECE", data.draw(st.integers(1, 70)))
        run = make_run(Path(folder) / "run", **columns)
        rows = run.table().to_pylist()
        asked = {row["index"] for row in rows if row["loss"] is not None and row["loss"] > bound} if bound else None
        where = f"loss > {bound}" if bound else None
        try:
            chosen = select(run, selector, data.draw(st.integers(1, len(rows))), where=where, **how)
        except UsageError:
            return
        keep = chosen.made_by["keep"]
        assert chosen.decisions.to_pylist() == plain(rows, selector, keep, asked, where or "", **how)
        assert chosen.decisions.equals(select(run.table(), selector, keep, where=where, **how).decisions)
        chosen.save("x")
        again = type(chosen).load(Run.open(run.folder), "x")
        assert (again.ids, dict(again.dropped)) == (chosen.ids, dict(chosen.dropped))


def test_a_difference_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path, {"loss": [1, 2, 3, 4]})
    assert compare(run, "top:by=loss,balance=none", 2) == "4 rows decided as by plain Python"
    monkeypatch.setattr("tests.plain_selection._hash", lambda word, seed: -int(word[1:]))
    assert compare(run, "top:by=loss,balance=none", 2) == "4 rows decided as by plain Python"
    with pytest.raises(AssertionError):
        compare(run, "random", 2)
