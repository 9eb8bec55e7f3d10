"""Runs without a model: `make_run` writes a finished run folder from given columns, `make_table` a bare table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vlmsift.runs.run import Run


def settings(rows: int, signals: dict[str, int], part_size: int = 4, **identity: Any) -> dict[str, Any]:
    """What `Run.create_or_resume` takes; `signals` maps a name to its width."""
    columns = {name: {"width": width, "unit": "nats", "higher_means": "more"} for name, width in signals.items()}
    return {
        "identity": {
            "data": {"fingerprint": "f"},
            "rows": rows,
            "part_size": part_size,
            "signals": columns,
            **identity,
        },
        "info": {"device": "cpu"},
    }


def rows_of(signals: dict[str, Any], **fixed: Any) -> dict[str, Any]:
    """All columns of a pool of n rows; by default ids s0, s1, ..., one image each, no source, no error."""
    count = len(next(iter(signals.values())))
    rows: dict[str, Any] = {
        "index": np.arange(count),
        "id": [f"s{row}" for row in range(count)],
        "source": [None] * count,
        "answer_key": [None] * count,
        "question": [None] * count,
        "images": np.ones(count, np.int32),
        "answer_tokens": np.ones(count, np.int32),
        "reason": [None] * count,
    }
    rows.update(fixed)
    rows.setdefault("status", ["ok" if reason is None else "error" for reason in rows["reason"]])
    return {**rows, **{name: np.asarray(values, np.float32) for name, values in signals.items()}}


def make_run(folder: Path, signals: dict[str, Any], part_size: int = 4, **fixed: Any) -> Run:
    """A finished run in `folder`; `signals` maps a name to (n,) or (n, K) values, `fixed` replaces fixed columns."""
    rows = rows_of(signals, **fixed)
    count = len(rows["index"])
    widths = {name: np.asarray(values).shape[1] if np.ndim(values) > 1 else 1 for name, values in signals.items()}
    run = Run.create_or_resume(folder, settings(count, widths, part_size))
    for part, start in enumerate(range(0, count, part_size)):
        run.write_part(part, {name: values[start : start + part_size] for name, values in rows.items()})
    return run


def make_table(signals: dict[str, Any], **fixed: Any) -> pa.Table:
    """The same as a `pyarrow.Table`, as a selector takes it; NaN is null."""
    columns = {}
    for name, values in rows_of(signals, **fixed).items():
        if np.ndim(values) > 1:
            flat = pa.array(np.ravel(values), from_pandas=True)
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, np.shape(values)[1])
        else:
            columns[name] = pa.array(values, from_pandas=True)
    return pa.table(columns)
