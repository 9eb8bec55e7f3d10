"""Python rows as Arrow tables: one schema for all rows, and a sentence where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from vlmsift.errors import FormatError
from vlmsift.pools.arrow_writing import CHUNK, write_rows


def written(rows: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    write_rows(rows, folder / "out.parquet", "parquet")
    return list(pq.read_table(folder / "out.parquet").to_pylist())


def test_fields_that_come_late_are_there_for_all(tmp_path: Path) -> None:
    rows = [{"a": {"x": 1}}] * CHUNK + [{"a": {"y": "z"}, "b": [None]}, {"b": [{"c": 0.5}]}]
    found = written(rows, tmp_path)
    assert found[0] == {"a": {"x": 1, "y": None}, "b": None}
    assert found[-2:] == [{"a": {"x": None, "y": "z"}, "b": [None]}, {"a": None, "b": [{"c": 0.5}]}]


def test_whole_and_broken_numbers_become_broken(tmp_path: Path) -> None:
    assert written([{"a": 1}] * CHUNK + [{"a": 0.5}], tmp_path)[0] == {"a": 1.0}


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"ok": 1, "bad": 1}, {"ok": 2, "bad": "x"}], r"field 'bad' \(int, str\)"),
        ([{"bad": [1]}, {"bad": {"x": 1}}], r"field 'bad' \(dict, list\)"),
        ([{"bad": 2**70}], r"field 'bad' \(int\)"),
        ([{"bad": "\ud83d"}], r"field 'bad' \(str\)"),
        ([{"bad": 1}] * CHUNK + [{"bad": "x"}], r"[Ff]ield bad has incompatible types: int64 vs string"),
        ([{"bad": {}}], "no child field"),
    ],
)
def test_what_no_column_holds_is_named(rows: list[dict[str, Any]], reason: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=reason) as caught:
        written(rows, tmp_path)
    assert "Export them as .jsonl instead" in str(caught.value)
