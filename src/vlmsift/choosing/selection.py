"""Decisions as a Selection, and a Selection as a file. In: one row per sample. Out: `selections/NAME.parquet`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vlmsift.errors import UsageError
from vlmsift.files import write_atomically
from vlmsift.runs.run import Run
from vlmsift.types import Selection

DECISIONS = pa.schema(
    [
        ("id", pa.string()),
        ("index", pa.int64()),  # row of the pool
        ("kept", pa.bool_()),
        ("rank", pa.int64()),  # 1 is the best; null where dropped
        ("value", pa.float64()),  # of the signal that ranked, where it is one number
        ("group", pa.string()),  # null where the row could not be chosen
        ("reason", pa.string()),  # null where kept
    ]
)
_KEY = b"vlmsift.made_by"


@dataclass(frozen=True)
class Decided(Selection):
    """A Selection with all that was decided: `decisions` is a `pyarrow.Table` of `DECISIONS`, in the pool's order."""

    decisions: Any = field(repr=False, compare=False)


class Drops(Mapping[str, str]):
    """id -> reason, in the pool's order. A million reasons stay Arrow strings until somebody asks for one."""

    def __init__(self, ids: Any, reasons: Any) -> None:
        self._ids, self._reasons = ids, reasons

    @cached_property
    def _found(self) -> dict[str, str]:
        return dict(zip(self._ids.to_pylist(), self._reasons.to_pylist(), strict=True))

    def __getitem__(self, key: str) -> str:
        return self._found[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._ids)

    def __repr__(self) -> str:
        return f"<{len(self)} dropped ids with reasons>"


def make_selection(decisions: Any, made_by: Mapping[str, Any]) -> Decided:
    """The Selection that a table of schema `DECISIONS` tells of."""
    kept = decisions.filter(decisions["kept"])
    ids = kept["id"].take(pc.sort_indices(kept["rank"])).to_pylist()
    dropped = decisions.filter(pc.invert(decisions["kept"]))
    return Decided(tuple(ids), Drops(dropped["id"], dropped["reason"]), made_by, decisions)


def save(selection: Selection, run: Run, name: str) -> Path:
    """Write a selection of this run's samples into its folder, in place of one of that name. Returns the file."""
    path = _path(run, name)
    decisions = selection.decisions if isinstance(selection, Decided) else _tabled(selection, run)
    decisions = decisions.replace_schema_metadata({_KEY: json.dumps(dict(selection.made_by)).encode()})
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, lambda temporary: pq.write_table(decisions, temporary, compression="zstd"))
    return path


def load(run: Run, name: str) -> Decided:
    """Read a saved selection. Raises UsageError where there is none of that name, or the file is not one."""
    path = _path(run, name)
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.parquet"))) or "none"
        raise UsageError(f"{run.folder} has no selection {name!r}. It has: {known}.")
    try:
        decisions = pq.read_table(path)
        made_by = json.loads((decisions.schema.metadata or {})[_KEY])
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise UsageError(f"{path} is not a saved selection ({error!r}). Select again under that name.") from error
    return make_selection(decisions.replace_schema_metadata(None), made_by)


def _path(run: Run, name: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,99}", name):
        raise UsageError(f"{name!r} cannot name a selection. Use letters, digits and . _ - (at most 100).")
    return run.folder / "selections" / f"{name}.parquet"


def _tabled(selection: Selection, run: Run) -> Any:
    """The decisions of a Selection that was made by hand: value and group are null."""
    rows = run.table(["id", "index"])
    known = pc.index_in(rows["id"], value_set=pa.array(selection.ids, pa.string()))
    reasons = pa.array([selection.dropped.get(key) for key in rows["id"].to_pylist()], pa.string())
    kept = pc.is_valid(known)
    told = np.asarray(kept) != np.asarray(pc.is_valid(reasons))
    if not told.all() or pc.sum(kept).as_py() != len(selection.ids):
        raise UsageError(f"the selection is not one of {run.folder}: each of its rows must be kept or have a reason.")
    columns = {"id": rows["id"], "index": rows["index"], "kept": kept, "rank": pc.add(known, 1), "reason": reasons}
    absent = pa.nulls(len(rows))
    return pa.table([pc.cast(columns.get(item.name, absent), item.type) for item in DECISIONS], schema=DECISIONS)
