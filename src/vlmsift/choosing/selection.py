"""What was chosen, in memory and as a file. In: one decision per row. Out: `selections/NAME.parquet`, exported rows.

The decisions of millions of rows are not held as a table: they come a piece at a time, from what a selector worked out
or from the file, and whoever asks for all of them has them made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vlmsift.choosing.decisions import DECISIONS
from vlmsift.errors import UsageError
from vlmsift.places import Place, as_place, writing
from vlmsift.runs.pool import run_pool
from vlmsift.runs.record import SELECTION
from vlmsift.runs.run import Run
from vlmsift.texts import Texts

_ROW_GROUP = 2**20


class Drops(Mapping[str, str]):
    """id -> reason, in the pool's order. Who looks one up, or asks for `items`, has all of them made."""

    def __init__(self, batches: Callable[[Sequence[str]], Iterator[Any]], count: int) -> None:
        self._batches, self._count = batches, count

    @cached_property
    def _by_id(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for batch in self._batches(["id", "kept", "reason"]):
            left = batch.filter(pc.invert(batch["kept"]))
            found.update(zip(left["id"].to_pylist(), left["reason"].to_pylist(), strict=True))
        return found

    def __getitem__(self, key: str) -> str:
        return self._by_id[key]

    def __iter__(self) -> Iterator[str]:
        for batch in self._batches(["id", "kept"]):
            yield from batch.filter(pc.invert(batch["kept"]))["id"].to_pylist()

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<{len(self)} dropped ids with reasons>"


class Selection:
    """The samples to keep, a reason for each other one, and all that is needed to choose them again.

    Attributes:
        made_by: selector, budget, seed and what came of them, as JSON values.
        run: that was chosen from; None where it was a bare table.
    """

    def __init__(self, made: Any, made_by: Mapping[str, Any], run: Run | None = None) -> None:
        self._made = made  # `batches(columns)` gives the decisions: `Decisions`, or `_Saved`
        self.made_by, self.run = made_by, run

    def __repr__(self) -> str:
        return f"Selection(made_by={self.made_by!r})"

    def __eq__(self, other: object) -> bool:
        """The same decisions, made in the same way."""
        if not isinstance(other, Selection):
            return NotImplemented
        return bool(self.made_by == other.made_by and self.decisions.equals(other.decisions))

    __hash__ = None  # type: ignore[assignment]

    def batches(self, columns: Sequence[str] = DECISIONS.names) -> Iterator[Any]:
        """Those columns of `decisions`, a `pyarrow.RecordBatch` at a time."""
        found: Iterator[Any] = self._made.batches(columns)
        return found

    @cached_property
    def decisions(self) -> Any:
        """A `pyarrow.Table` of schema `DECISIONS`: a row per sample in the pool's order. All in memory."""
        return pa.Table.from_batches(self.batches(), DECISIONS).combine_chunks()

    @cached_property
    def ids(self) -> Sequence[str]:
        """Of the kept samples, best first."""
        kept, ranks = [], []
        for batch in self.batches(["id", "kept", "rank"]):
            chosen = batch.filter(batch["kept"])
            kept.append(chosen["id"].cast(pa.large_string()))
            ranks.append(chosen["rank"].to_numpy())
        order = np.argsort(np.concatenate([np.zeros(0, np.int64), *ranks]), kind="stable")
        ids = pa.concat_arrays([pa.array([], pa.large_string()), *kept])
        return Texts(ids.take(pa.array(order)))

    @cached_property
    def dropped(self) -> Mapping[str, str]:
        """id -> reason of all the others, in the pool's order."""
        return Drops(self.batches, len(self.rows(dropped=True)))

    def rows(self, *, dropped: bool = False) -> NDArray[np.int64]:
        """Numbers of the kept (or the dropped) rows of the pool, ascending."""
        found = [np.zeros(0, np.int64)]
        for batch in self.batches(["index", "kept"]):
            kept = batch["kept"].to_numpy(zero_copy_only=False)
            found.append(batch["index"].to_numpy()[~kept if dropped else kept])
        return np.concatenate(found)

    def save(self, name: str) -> Place:
        """Write it into its run's folder, in place of one of that name. Returns the file."""
        path = _path(self._own_run(), name)
        schema = DECISIONS.with_metadata({SELECTION: json.dumps(dict(self.made_by)).encode()})
        with writing(path) as temporary:
            self._write(temporary, schema)
        return path

    def _write(self, path: Path, schema: Any) -> None:
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            held: list[Any] = []
            for batch in self.batches():
                held.append(batch)
                if sum(map(len, held)) >= _ROW_GROUP:
                    writer.write_table(pa.Table.from_batches(held, DECISIONS))
                    held = []
            writer.write_table(pa.Table.from_batches(held, DECISIONS))

    @classmethod
    def load(cls, run: Run, name: str) -> Selection:
        """Read a saved one. Raises UsageError where the run has none of that name, or the file is not one."""
        path = _path(run, name)
        if not path.exists():
            known = ", ".join(sorted(file.stem for file in _saved(path.parent))) or "none"
            raise UsageError(f"{run.place} has no selection {name!r}. It has: {known}.")
        try:
            file = pq.ParquetFile(path if isinstance(path, Path) else path.open())
            made_by = json.loads((file.metadata.metadata or {})[SELECTION])
        except (pa.ArrowInvalid, OSError, KeyError) as error:
            raise UsageError(f"{path} is not a saved selection ({error!r}). Select again under that name.") from error
        return cls(_Saved(path, file), made_by, run)

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
        return run_pool(self._own_run(), pool).export(self.rows(dropped=dropped), out, format=format)

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


class _Saved:
    """The decisions in a file, which stays open: it may be replaced meanwhile."""

    def __init__(self, path: Place, file: pq.ParquetFile) -> None:
        self._path, self._file = path, file

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        schema = pa.schema([DECISIONS.field(name) for name in columns])
        try:
            for batch in self._file.iter_batches(2**17, columns=list(columns)):
                yield batch.select(list(columns)).cast(schema)
        except (pa.ArrowException, OSError) as error:
            raise UsageError(f"{self._path} cannot be read ({error}). Select again under that name.") from error
