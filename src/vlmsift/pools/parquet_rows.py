"""Rows of Parquet files. In: the parts, in order. Out: rows from row groups that are read late, two kept at a time."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vlmsift.errors import FormatError, StoreError
from vlmsift.places import Place, StorePath
from vlmsift.pools.arrow_rows import ArrowRows

_KEPT_GROUPS = 2  # row groups in memory, per process


class ParquetRows(ArrowRows):
    """Rows of one Parquet file, or of parts with one schema. Safe to pickle and to use after a fork.

    Raises FormatError for what is no Parquet file, or parts whose columns differ.
    """

    container = "parquet"

    def __init__(self, files: tuple[Place, ...]) -> None:
        self.files, self._process = files, os.getpid()
        self._cache: dict[int, pa.Table] = {}
        self._readers: dict[int, pq.ParquetFile] = {}  # the last one only: there may be thousands of parts
        self._groups: list[tuple[int, int]] = []  # (file, row group within it)
        sizes = []
        for number, path in enumerate(files):
            reader = self._reader(number)
            if number == 0:
                self.schema = reader.schema_arrow
            elif not reader.schema_arrow.equals(self.schema):
                what = _difference(reader.schema_arrow, self.schema)
                raise FormatError(f"{path}: {what} in {files[0].name}. Open it alone.")
            for group in range(reader.num_row_groups):
                self._groups.append((number, group))
                sizes.append(reader.metadata.row_group(group).num_rows)
        self._first_rows = np.cumsum([0, *sizes]).tolist()

    def __len__(self) -> int:
        return int(self._first_rows[-1])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}, "_readers": {}}

    def _reader(self, number: int) -> pq.ParquetFile:
        if self._process != os.getpid():  # a forked process may not use a connection of its parent
            self._process, self._readers = os.getpid(), {}
        if number not in self._readers:
            path = self.files[number]
            try:
                if isinstance(path, StorePath):  # by ranges, those of a row group together
                    reader = pq.ParquetFile(path.open(), pre_buffer=True)
                else:
                    reader = pq.ParquetFile(path, memory_map=True)  # mapped: forked workers share no file position
            except StoreError:
                raise
            except (pa.ArrowException, OSError) as error:
                raise FormatError(f"{path}: not a whole Parquet file: {error} Download it again.") from error
            self._readers = {number: reader}
        return self._readers[number]

    def _group(self, number: int) -> pa.Table:
        if number not in self._cache:
            file, group = self._groups[number]
            # one thread: the pool may be read by forked workers, which Arrow's own threads do not survive
            table = self._reader(file).read_row_group(group, use_threads=False)
            while len(self._cache) >= _KEPT_GROUPS:
                self._cache.pop(next(iter(self._cache)))  # the one read first
            self._cache[number] = table
        return self._cache[number]

    def one(self, index: int) -> pa.Table:
        group = bisect_right(self._first_rows, index) - 1
        return self._group(group).slice(index - self._first_rows[group], 1)  # without copying its neighbours

    def take(self, indices: Sequence[int]) -> pa.Table:
        """The rows `indices` in that order, (K, columns); each row group is read once per call."""
        wanted = np.asarray(indices, np.int64)
        order = np.argsort(wanted, kind="stable")
        groups = np.array([bisect_right(self._first_rows, index) - 1 for index in wanted[order]])  # (K,)
        pieces = []
        for group in np.unique(groups):
            local = wanted[order][groups == group] - self._first_rows[group]
            pieces.append(self._group(int(group)).take(pa.array(local)))
        return pa.concat_tables(pieces).take(pa.array(np.argsort(order, kind="stable")))  # back to the order asked for

    def batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        """The named columns only. Raises FormatError for a file that is damaged there."""
        for number, path in enumerate(self.files):
            try:
                yield from self._reader(number).iter_batches(columns=names, use_threads=False)
            except (pa.ArrowException, OSError) as error:
                raise FormatError(f"{path}: columns {names} cannot be read: {error}. Download it again.") from error


def _difference(schema: pa.Schema, first: pa.Schema) -> str:
    for field in schema:
        index = first.get_field_index(field.name)
        if index < 0:
            return f"column {field.name!r} is not"
        if not first.field(index).equals(field):
            return f"column {field.name!r} is {field.type}, but {first.field(index).type}"
    return f"columns {schema.names} differ from {first.names}"
