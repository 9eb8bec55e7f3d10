"""Rows of a saved data set (Hugging Face). In: the folder that `save_to_disk` wrote. Out: rows, images undecoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from vlmsift.errors import FormatError
from vlmsift.places import Place
from vlmsift.pools.arrow_rows import ArrowRows
from vlmsift.pools.arrow_writing import CHUNK
from vlmsift.pools.local_copies import local_folder


class DatasetRows(ArrowRows):
    """Rows of one saved data set (one split), copied first where it lies in a store.

    Raises FormatError where the folder is not a whole one.

    Read in Arrow form: an `Image()` column gives its stored bytes and path, so nothing is decoded or opened here.
    """

    container = "dataset"

    def __init__(self, path: Place) -> None:
        import datasets

        self._path = local_folder(path)
        try:
            dataset = datasets.load_from_disk(str(self._path))
        except Exception as error:
            raise FormatError(f"{path}: the saved data set cannot be loaded: {error}. Save it again.") from error
        self._data = dataset.with_format("arrow")
        self.files = tuple(Path(file["filename"]) for file in dataset.cache_files)
        self.schema = dataset.data.schema

    def __len__(self) -> int:
        return len(self._data)

    def take(self, indices: Sequence[int]) -> pa.Table:
        return self._data[list(indices)]  # (K, columns)

    def batches(self, names: list[str]) -> Iterator[pa.Table]:
        columns = self._data.select_columns(names)
        return (columns[at : at + CHUNK] for at in range(0, len(self), CHUNK))  # each (n, columns)

    def about(self) -> Path:
        return self._path
