"""Rows that lie in Arrow tables. In: a way to take rows. Out: rows as Python values, and chosen rows written as tables.

Lossless between Parquet and saved data sets in both directions: values, column order, types and metadata (Hugging Face
features among it) are moved as Arrow, never through Python values. Compression and row groups are the writer's own.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vlmsift.errors import SampleError
from vlmsift.places import Place
from vlmsift.pools.arrow_writing import CHUNK, write_tables


class ArrowRows(ABC):
    """N rows of one schema; subclasses know where the tables come from."""

    container: str
    files: tuple[Place, ...]
    schema: pa.Schema

    @abstractmethod
    def __len__(self) -> int:
        """N."""

    @abstractmethod
    def take(self, indices: Sequence[int]) -> pa.Table:
        """The rows `indices` in that order, (K, columns). Raises what pyarrow raises for a damaged file."""

    def one(self, index: int) -> pa.Table:
        """Row `index`, (1, columns)."""
        return self.take([index])

    @abstractmethod
    def batches(self, names: list[str]) -> Iterator[pa.Table | pa.RecordBatch]:
        """Only the named columns of all rows, in row order, piece by piece."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        try:
            return _values(self.one(index))[0]  # of a table (1, columns)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise SampleError("unreadable row", f"it cannot be read: {error}") from error

    def fields(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """For every row the named fields that its schema has; other columns stay on disk.

        Raises FormatError where a file is damaged where these columns lie.
        """
        if present := [name for name in names if name in self.schema.names]:
            return (row for batch in self.batches(present) for row in _values(batch))
        return ({} for _ in range(len(self)))

    def copy(self, indices: NDArray[np.int64], out: Path, container: str) -> None:
        """Write rows to a Parquet file or a saved data set, as tables. Raises FormatError for a type it cannot hold."""
        chunks = (indices[at : at + CHUNK].tolist() for at in range(0, len(indices), CHUNK))
        write_tables((self.take(chunk) for chunk in chunks), self.schema, out, container, self.about())

    def about(self) -> Path | None:
        """A saved data set's folder, whose description a copy inherits."""
        return None


def _values(table: pa.Table | pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows as Python values; columns of type `arrow.json`, where `datasets` puts values of mixed types, are decoded."""
    rows: list[dict[str, Any]] = table.to_pylist()
    for field in table.schema:
        if _holds_json(field.type):
            for row in rows:
                row[field.name] = _decoded(row[field.name], field.type)
    return rows


def _holds_json(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType) and kind.extension_name == "arrow.json":
        return True
    return any(_holds_json(kind.field(part).type) for part in range(kind.num_fields))


def _decoded(value: Any, kind: pa.DataType) -> Any:
    if value is None or not _holds_json(kind):
        return value
    if isinstance(value, list):
        return [_decoded(element, kind.field(0).type) for element in value]
    if isinstance(value, dict):
        return {name: _decoded(inner, kind.field(name).type) for name, inner in value.items()}
    return json.loads(value)
