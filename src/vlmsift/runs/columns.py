"""The columns of a run's parts. In: values of n rows. Out: Arrow arrays, undefined as null."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

FIXED = pa.schema(
    [
        pa.field("index", pa.int64(), nullable=False),  # row of the pool, from 0
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string()),
        pa.field("answer_key", pa.string()),  # the last answer, normalised, where it is short
        pa.field("question", pa.string()),  # what was asked before that answer, normalised and cut
        pa.field("images", pa.int32(), nullable=False),  # how many; 0 = text-only
        pa.field("answer_tokens", pa.int32()),
        pa.field("status", pa.string(), nullable=False),  # "ok", "error" or `NOT_ASKED`
        pa.field("reason", pa.string()),  # of a row that is not "ok", as "kind: detail"
    ]
)  # the columns of every run; one per signal follows. The signal `answer_tokens`, where asked for, is the column here
NOT_ASKED = "not asked"  # status of a row that the model was not to look at (see `scoring.asked`)
LATER = ("question",)  # fixed columns that a run of an earlier version may lack; they read as null


@dataclass(frozen=True)
class Column:
    """A signal as stored: float32, or a list of `width` float32; undefined is null.

    The list type is Parquet's own; many readers fail on nulls in Arrow's fixed-size one.
    """

    name: str
    width: int = 1
    unit: str = ""
    higher_means: str = ""
    vector: bool = False  # a list even where `width` is 1; one that is wider is a list in any case

    @property
    def is_list(self) -> bool:
        return self.vector or self.width > 1

    @property
    def field(self) -> Any:
        """The column as a `pyarrow.Field`."""
        return pa.field(self.name, pa.list_(pa.float32()) if self.is_list else pa.float32())


def columns_in(identity: Mapping[str, Any]) -> list[Column]:
    """The signals of a run with this identity, in the order they were asked for."""
    known = {"width", "unit", "higher_means", "vector"}
    signals = identity["signals"].items()
    return [Column(name, **{key: signal[key] for key in known & signal.keys()}) for name, signal in signals]


def schema_in(identity: Mapping[str, Any]) -> Any:
    """`pyarrow.Schema` of its parts: the fixed columns, then the signals."""
    return pa.schema([*FIXED, *(column.field for column in columns_in(identity) if column.name not in FIXED.names)])


def is_schema(schema: Any, own: Any) -> bool:
    """Whether a file with this schema may be a part of a run whose parts have the schema `own`; metadata do not count.

    An earlier version's lack the columns of `LATER`.
    """
    earlier = pa.schema([field for field in own if field.name not in LATER])
    return any(schema.equals(known) for known in (own, earlier))


def to_arrow(rows: Mapping[str, Any], field: Any, width: int, count: int) -> Any:
    """One column of a part as a `pyarrow.Array` of `field`'s type, NaN as null."""
    if field.name not in rows:
        if field.name not in FIXED.names or not field.nullable:
            raise ValueError(f"column {field.name!r} is missing")
        return pa.nulls(count, field.type)
    values, nested = rows[field.name], pa.types.is_nested(field.type)
    shape = (count, width) if nested else (count,)
    if np.shape(values) != shape:
        raise ValueError(f"column {field.name!r} takes {shape} values, got {np.shape(values)}")
    if not nested:
        return pa.array(values, field.type, from_pandas=True)
    defined = ~np.isnan(values).all(axis=1)  # (n,)
    offsets = np.concatenate([[0], np.cumsum(defined * width)]).astype(np.int32)  # (n + 1,)
    flat = pa.array(np.asarray(values, np.float32)[defined].ravel(), from_pandas=True)  # (defined * K,)
    return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=pa.array(~defined))
