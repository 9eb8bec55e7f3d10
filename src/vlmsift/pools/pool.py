"""The data set to choose from. In: rows and the format that reads them. Out: samples by index; rows in a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vlmsift.errors import SampleError, UsageError
from vlmsift.places import Place
from vlmsift.pools.export import checked_target, export_rows
from vlmsift.pools.fingerprint import fingerprint
from vlmsift.pools.ids import ID_FIELDS, own_id, text_of, unique_ids
from vlmsift.pools.known import FORMATS
from vlmsift.pools.remembered import LARGE, remembered
from vlmsift.pools.rows import Rows
from vlmsift.texts import Texts
from vlmsift.types import Sample

SOURCE_FIELDS = ("source", "task", "dataset")
LONGEST = 1_000_000  # characters of a sample's turns; templates and tokenizers take seconds, for more minutes


class Pool:
    """N samples of one file or folder, read late; made by `open_pool`. Can be pickled, and used after a fork.

    Attributes:
        path: the file or folder.
        container: "json", "jsonl", "parquet", "tar" or "dataset".
        format: "llava", "messages" or "sharegpt".
        image_root: the folder that image paths are relative to.
        source_field: the field that names a row's source, where one was asked for.
    """

    def __init__(
        self, path: Place, rows: Rows, format: str, image_root: Place, source_field: str | None = None
    ) -> None:
        self.path, self.container, self._rows = path, rows.container, rows
        self.format, self.image_root, self.source_field = format, image_root, source_field
        self._source_fields = (source_field,) if source_field else SOURCE_FIELDS

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        """Sample `index` (negative ones count from the end).

        Raises:
            SampleError: the row cannot be read, or cannot be used as a sample; the text is the reason.
            IndexError: there is no such row.
        """
        index = self._checked(index)
        row = self._rows[index]
        turns, images = FORMATS[self.format].read(row)
        if (length := sum(len(turn.text) for turn in turns)) > LONGEST:
            found = f"{length:,} characters, the limit is {LONGEST:,}; split it, or drop the row"
            raise SampleError("text too long", found)
        for turn in turns:
            try:
                turn.text.encode("utf-8")
            except UnicodeEncodeError as error:
                half = error.object[error.start]
                raise SampleError("malformed row", f"a text holds half a character ({half!r}); repair it") from None
        return Sample(self.ids[index], index, turns, images, self.source(index), row)

    def _checked(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of a pool with {len(self)} rows")
        return index % len(self)

    @cached_property
    def _labels(self) -> tuple[Sequence[str], Any]:
        """Ids and sources, by `index`."""
        if len(self) < LARGE:
            return self._read_labels()
        what = f"labels {json.dumps(self._source_fields)}"
        table = remembered(what, self._rows.files, len(self), lambda: _as_table(*self._read_labels()))
        return Texts(table["id"].chunk(0)), Texts(table["source"].chunk(0))

    def _read_labels(self) -> tuple[list[str], list[str | None]]:
        """Ids and sources in one go over the file, in which nothing else is decoded."""
        own: list[str | None] = []
        sources: list[str | None] = []
        known: dict[str, str] = {}  # a source is one of few: share the strings
        for fields in self._rows.fields((*ID_FIELDS, *self._source_fields)):
            own.append(own_id(fields))
            texts = (text_of(fields.get(name)) for name in self._source_fields)
            source = next((text for text in texts if text is not None), None)
            sources.append(None if source is None else known.setdefault(source, source))
        return unique_ids(own), sources

    @property
    def ids(self) -> Sequence[str]:
        """N stable unique ids, by the rule in `ids.py`."""
        return self._labels[0]

    def source(self, index: int) -> str | None:
        """Sub-data-set or task: the field asked for, else the first of `source`, `task`, `dataset` that the row has."""
        found: str | None = self._labels[1][index]
        return found

    def fingerprint(self) -> str:
        """Which data it is: a digest of the rows' files, in order (see `vlmsift.pools.fingerprint`).

        Images that lie in files of their own are not read.
        """
        files = self._rows.files
        if len(self) < LARGE:
            return fingerprint(files)
        told = remembered("fingerprint", files, len(self), lambda: pa.table({"digest": [fingerprint(files)]}))
        return str(told["digest"][0])

    def export(
        self,
        indices: Sequence[int] | NDArray[np.int64],
        out: str | Place,
        format: str | None = None,
        container: str | None = None,
    ) -> Place:
        """Write the rows `indices`, in that order, to a file or folder that appears whole or not at all.

        In the pool's own format this is lossless within a family: JSON and JSONL copy the source text of each row,
        Parquet and saved data sets copy Arrow values and schema, tar copies members. Between the families the rows are
        moved as Python values: going to Arrow, a field that a row lacks becomes null, and of a repeated key the last
        counts; going to JSON, images that are bytes become files in `<out stem>_images/`; going to tar, all images are
        read and become members. Into another format a row is *converted*: its
        turns and images are written anew, its id becomes the sample's id, other fields are kept. Image paths always
        stay as they are, relative to `image_root`, unless the images are packed.

        Args:
            indices: rows, best first or in file order; the order is kept.
            out: `.json`, `.jsonl` (`.ndjson`), `.parquet` or `.tar` for such a file; a name without a suffix, or with a
                closing `/`, or an existing folder for a saved data set. Another suffix says nothing. Into a store it is
                written on this machine first.
            format: "llava", "messages" or "sharegpt"; by default the pool's own.
            container: "json", "jsonl", "parquet", "tar" or "dataset"; by default what `out` says, else the pool's own.

        What has that name is replaced where it is a file of rows, or a folder with nothing but a saved data set.
        Returns the path written.

        Raises:
            UsageError: an unknown format, container or row, no rows at all, or an `out` that would destroy something
                (`check_export` tells before).
            FormatError: a row that the target cannot hold.
        """
        chosen = np.asarray(indices, np.int64)
        if len(wrong := np.flatnonzero((chosen < -len(self)) | (chosen >= len(self)))):
            there = f"row {chosen[wrong[0]]} of a pool with {len(self)} rows"
            raise UsageError(f"{there}; nothing was written to {out}")
        return export_rows(self, self._rows, chosen % len(self), out, format, container)

    def check_export(self, out: str | Place, format: str | None = None, container: str | None = None) -> Place:
        """Where `export` would write. Raises UsageError where it would refuse to, whatever the rows; writes nothing."""
        return checked_target(self, out, format, container)[0]


def _as_table(ids: Sequence[str], sources: Sequence[str | None]) -> pa.Table:
    """(N, 2): ids, and sources, of which many are the same."""
    return pa.table(
        {"id": pa.array(ids, pa.large_string()), "source": pa.array(sources, pa.string()).dictionary_encode()}
    )
