"""A run, or a bare table, as a selector sees it. In: a Run or a `pyarrow.Table`. Out: its columns, checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vlmsift.errors import UsageError
from vlmsift.runs.columns import FIXED
from vlmsift.runs.query import as_vectors, matching
from vlmsift.runs.run import Run

CHECKPOINTS = (
    "Trajectories come from several checkpoints of one training: `vlmsift train POOL --model M --snapshots 7 --out "
    "OUT`, then `vlmsift score POOL --model OUT/snapshots --signal trajectory=image_spectrum` into a run of its own, "
    "at the price of one training and one scoring per checkpoint."
)


class Source(NamedTuple):
    """Where candidates come from."""

    table: Any  # N rows: the columns `runs.FIXED`, and the scalar ones that were asked for
    vectors: Mapping[str, Callable[[], NDArray[np.float32]]]  # column -> loads (N, K), once
    matching: Callable[[str], NDArray[np.int64]]  # SQL condition -> values of `index`
    digest: str | None  # hash of the signals; None for a bare table


def open_source(run: Run | Any, columns: Iterable[str], vector: str | None = None) -> Source:
    """`run` with the signals `columns`; the one called `vector`, where it is among them, is to be a vector.

    Raises UsageError where a column is missing, the run is unfinished, or ids repeat.
    """
    load: Callable[[str], NDArray[np.float32]]
    if isinstance(run, Run):
        schema, fetch, query, load = run.schema, run.table, run.query, run.vector
    else:
        bare = _complete(run)
        schema, fetch, query = bare.schema, bare.select, partial(matching, bare)
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
    table = fetch([*FIXED.names, *(name for name in wanted if name not in (*nested, *FIXED.names))])
    if isinstance(run, Run) and len(table) < run.pool_rows:
        cure = "Start the same score command again to finish it, or choose from what is there"
        there = f"{len(table)} of {run.pool_rows} rows are scored"
        raise UsageError(f"{run.place} is unfinished: {there}. {cure}: select(run.table(), ...).")
    counts = pc.value_counts(table["id"])
    if len(counts) < len(table):
        twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))[0]
        raise UsageError(f"the id {twice.as_py()!r} occurs more than once; ids must be unique.")
    vectors = {name: cache(partial(load, name)) for name in nested}
    return Source(table, vectors, query, run.signals_hash() if isinstance(run, Run) else None)


def _complete(table: Any) -> Any:
    """A table with all of `runs.FIXED`: rows are "ok" and have an image unless it says otherwise."""
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
    return table
