"""Conditions on a run, and its vector columns as arrays. In: a table or data set. Out: row numbers, (N, K) float32."""

from __future__ import annotations

from threading import Timer
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vlmsift.errors import UsageError

SECONDS = 60  # longest that a condition may take; one over a million rows takes under a second
SECONDS_PER_ROW = 1e-5  # of a run of millions, which is read from its files
MEMORY = "2GB"


def matching(rows: Any, where: str, seconds: float = SECONDS) -> NDArray[np.int64]:
    """Values of the column `index`, ascending, of the rows where the SQL condition `where` holds; null counts as no.

    `rows` is a `pyarrow.Table`, or a `pyarrow.dataset.Dataset` of scalar columns, which is read a piece at a time.
    One condition, and nothing else: DuckDB parses it as a single expression, without files, extensions or settings.
    It may hold a subquery over `run`. Raises UsageError that quotes DuckDB and names the columns; also where it takes
    longer than `seconds`, or more than `MEMORY` beside the table.
    """
    import duckdb

    names = [field.name for field in rows.schema if not pa.types.is_nested(field.type)]
    scalars = rows.select(names) if isinstance(rows, pa.Table) else rows
    closed = ("enable_external_access", "autoload_known_extensions", "autoinstall_known_extensions")
    limits = {"memory_limit": MEMORY, "temp_directory": ""}  # nothing is put on the disk when memory is short
    connection = duckdb.connect(":memory:", config={**dict.fromkeys(closed, "false"), **limits})
    timer = Timer(seconds, connection.interrupt)
    timer.start()
    try:
        connection.register("run", scalars)
        connection.execute("SET lock_configuration = true")
        # twice: bare, so that no bracket can be closed; in brackets, because some versions overlook a trailing LIMIT
        found = connection.view("run").filter(where).filter(f"({where}\n)")
        index = found.project('"index"').fetchnumpy()["index"]
    except duckdb.InterruptException as error:
        cure = "Leave out a subquery over all pairs of rows, or one that calls itself."
        raise UsageError(f"where={where!r} did not end within {seconds:g} seconds. {cure}") from error
    except duckdb.OutOfMemoryException as error:
        raise UsageError(f"where={where!r} takes more than {MEMORY}. Leave out a subquery over all rows.") from error
    except duckdb.Error as error:
        said = str(error).strip().splitlines()[0]
        raise UsageError(
            f"where={where!r} is not a condition on this run: {said}. Columns: {', '.join(names)}."
        ) from error
    finally:
        timer.cancel()
        connection.close()
    return np.sort(np.asarray(index, np.int64))


def as_vectors(column: Any) -> NDArray[np.float32]:
    """(N, K) float32 from a chunked column of lists; a null list becomes a row of NaN. K is 1 where all are null.

    Raises UsageError where the lists are not all of one length.
    """
    widths = pc.unique(pc.list_value_length(column).drop_null()).to_pylist()
    if len(widths) > 1:
        raise UsageError(f"a vector column has lists of different lengths: {sorted(widths)[:3]}")
    out = np.full((len(column), max(widths, default=1)), np.nan, np.float32)
    start = 0
    for chunk in column.chunks:
        defined = chunk.is_valid().to_numpy(zero_copy_only=False)  # (n,)
        values = chunk.flatten().to_numpy(zero_copy_only=False)  # (defined * K,), without those of null lists
        out[start : start + len(chunk)][defined] = values.reshape(-1, out.shape[1])
        start += len(chunk)
    return out
