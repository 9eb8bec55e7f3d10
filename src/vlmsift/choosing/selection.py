"""What was chosen, in memory and as a file. In: one decision per row. Out: `selections/NAME.parquet`, exported rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vlmsift.errors import UsageError
from vlmsift.places import Place, as_place, writing
from vlmsift.runs.pool import run_pool
from vlmsift.runs.run import SELECTION, Run

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


class Drops(Mapping[str, str]):
    """id -> reason, in the pool's order. A million reasons stay Arrow strings until somebody asks for one."""

    def __init__(self, ids: Any, reasons: Any) -> None:
        self._ids, self._reasons = ids, reasons

    @cached_property
    def _by_id(self) -> dict[str, str]:
        return dict(zip(self._ids.to_pylist(), self._reasons.to_pylist(), strict=True))

    def __getitem__(self, key: str) -> str:
        return self._by_id[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self._ids)

    def __repr__(self) -> str:
        return f"<{len(self)} dropped ids with reasons>"


@dataclass(frozen=True)
class Selection:
    """The samples to keep, a reason for each other one, and all that is needed to choose them again."""

    decisions: Any = field(repr=False)  # `pyarrow.Table` of schema `DECISIONS`, a row per sample in the pool's order
    made_by: Mapping[str, Any]  # selector, budget, seed and what came of them, as JSON values
    run: Run | None = field(default=None, repr=False, compare=False)  # chosen from; None where it was a bare table

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Of the kept samples, best first."""
        kept = self.decisions.filter(self.decisions["kept"])
        return tuple(kept["id"].take(pc.sort_indices(kept["rank"])).to_pylist())

    @cached_property
    def dropped(self) -> Mapping[str, str]:
        """id -> reason of all the others, in the pool's order."""
        dropped = self.decisions.filter(pc.invert(self.decisions["kept"]))
        return Drops(dropped["id"], dropped["reason"])

    def save(self, name: str) -> Place:
        """Write it into its run's folder, in place of one of that name. Returns the file."""
        path = _path(self._own_run(), name)
        table = self.decisions.replace_schema_metadata({SELECTION: json.dumps(dict(self.made_by)).encode()})
        with writing(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")
        return path

    @classmethod
    def load(cls, run: Run, name: str) -> Selection:
        """Read a saved one. Raises UsageError where the run has none of that name, or the file is not one."""
        path = _path(run, name)
        if not path.exists():
            known = ", ".join(sorted(file.stem for file in _saved(path.parent))) or "none"
            raise UsageError(f"{run.place} has no selection {name!r}. It has: {known}.")
        try:
            table = pq.read_table(path if isinstance(path, Path) else path.open())
            made_by = json.loads((table.schema.metadata or {})[SELECTION])
        except (pa.ArrowInvalid, OSError, KeyError) as error:
            raise UsageError(f"{path} is not a saved selection ({error!r}). Select again under that name.") from error
        return cls(table.replace_schema_metadata(None), made_by, run)

    def export(
        self, out: str | Place, *, format: str | None = None, dropped: bool = False, pool: str | Place | None = None
    ) -> Place:
        """Write the kept (or the dropped) rows, in the pool's order, untouched in the source format or converted.

        Args:
            out: .json, .jsonl, .parquet, .tar, or a folder for a saved Hugging Face data set; a path or a URL.
            format: "llava", "messages" or "sharegpt"; None is the pool's own.
            pool: where the pool is now, if it was moved since scoring.

        Raises:
            RunMismatch: the pool is not the one that was scored.
        """
        kept = self.decisions["kept"].to_numpy()  # (N,)
        rows = self.decisions["index"].to_numpy()[~kept if dropped else kept]
        return run_pool(self._own_run(), pool).export(rows.tolist(), out, format=format)

    def _own_run(self) -> Run:
        if self.run is None:
            raise UsageError("this selection was made from a table, which has no run. Select from the run instead.")
        return self.run


def _saved(folder: Place) -> list[Place]:
    return [file for file in folder.iterdir() if file.suffix == ".parquet"] if folder.is_dir() else []


def _path(run: Run, name: str) -> Place:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,99}", name):
        raise UsageError(f"{name!r} cannot name a selection. Use letters, digits and . _ - (at most 100).")
    return as_place(run.place) / "selections" / f"{name}.parquet"
