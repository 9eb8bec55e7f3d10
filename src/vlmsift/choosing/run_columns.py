"""A run, or a bare table, as a selector sees it. In: a Run or a `pyarrow.Table`. Out: its columns, checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vlmsift.choosing.columns import CODED, WHOLE, Columns
from vlmsift.errors import UsageError
from vlmsift.runs.columns import FIXED
from vlmsift.runs.query import as_vectors, matching
from vlmsift.runs.run import Run

CHECKPOINTS = (
    "Trajectories come from several checkpoints of one training: `vlmsift train POOL --model M --snapshots 7 --out "
    "OUT`, then `vlmsift score POOL --model OUT/snapshots --signal trajectory=image_spectrum` into a run of its own, "
    "at the price of one training and one scoring per checkpoint."
)

_PIECE = 2**17  # rows that are read at a time


def open_columns(run: Run | Any, columns: Iterable[str], vector: str | None = None) -> Columns:
    """`run` with the signals `columns`; the one called `vector`, where it is among them, is to be a vector.

    Raises UsageError where a column is missing, or the run is unfinished.
    """
    load: Callable[[str], NDArray[np.float32]]
    batches: Callable[[Sequence[str]], Iterator[Any]]
    if isinstance(run, Run):
        count, schema, query, load = run.stored_rows, run.schema, run.query, run.vector
        batches = lambda names: _merged(run.batches(names))  # noqa: E731
    else:
        bare = _complete(run)
        count, schema, query = len(bare), bare.schema, partial(matching, bare)
        batches = lambda names: iter(bare.select(list(names)).to_batches(max_chunksize=_PIECE))  # noqa: E731
        load = lambda name: as_vectors(bare[name])  # noqa: E731
    wanted = list(columns)
    signals = [name for name in schema.names if name not in FIXED.names or name == "answer_tokens"]
    nested = [field.name for field in schema if pa.types.is_nested(field.type)]
    for name in wanted:
        if name not in signals:
            kind, known = ("vector", nested) if name == vector else ("signal", signals)
            cure = "Choose by one of them, or score" if known else "Score"
            cure += f" with --signal {name} (one forward per sample, for some signals two), into a run of its own."
            has = f"{', '.join(known) or 'none'}. {CHECKPOINTS if name == 'trajectory' else cure}"
            raise UsageError(f"there is no {kind} {name!r} to choose by. The run has: {has}")
    if isinstance(run, Run) and count < run.pool_rows:
        cure = "Start the same score command again to finish it, or choose from what is there"
        there = f"{count} of {run.pool_rows} rows are scored"
        raise UsageError(f"{run.place} is unfinished: {there}. {cure}: select(run.table(), ...).")
    pieces = {}
    if isinstance(run, Run):
        large = [column for column in run.columns() if column.is_list and count * column.width > WHOLE]
        pieces = {column.name: partial(run.vector_pieces, column.name) for column in large}
    numbers = [name for name in wanted if pa.types.is_floating(schema.field(name).type)]
    vectors = {name: cache(partial(load, name)) for name in nested}
    return Columns(count, schema, batches, vectors, query, [*CODED, "images", "status", *numbers], pieces)


def _complete(table: Any) -> Any:
    """A table with all of `runs.FIXED`, in the order of `index`: rows are "ok" and have an image unless it says
    otherwise."""
    if "id" not in table.column_names:
        raise UsageError(f"the table has no column 'id'. It has: {', '.join(table.column_names)}.")
    count = len(table)
    given = {"index": np.arange(count), "images": np.ones(count, np.int32), "status": pa.repeat("ok", count)}
    for field in FIXED:
        if field.name in table.column_names:
            place = table.column_names.index(field.name)
            table = table.set_column(place, field.name, table[field.name].cast(field.type))
        else:
            table = table.append_column(field.name, pa.array(given.get(field.name, pa.nulls(count)), field.type))
    index = table["index"].to_numpy()
    return table if (index[1:] > index[:-1]).all() else table.take(pc.sort_indices(table["index"]))


def _merged(batches: Iterator[Any]) -> Iterator[Any]:
    """The rows of many small `pyarrow.RecordBatch`es in few of at least `_PIECE` rows, but for the last."""
    held: list[Any] = []
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= _PIECE:
            yield pa.concat_batches(held)
            held = []
    if held:
        yield pa.concat_batches(held)
