"""Files to samples to files. In: a path. Out: a `Pool`, whatever its container and format.

Two things are told apart: a *container* holds rows (JSON, JSONL, Parquet, tar, a saved data set); a *format* says what
is in a row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from vlmsift.errors import FormatError, SampleError, UsageError
from vlmsift.places import Place, StorePath, as_place
from vlmsift.pools.images import image_bytes, open_image
from vlmsift.pools.known import FORMATS, guess
from vlmsift.pools.pool import Pool
from vlmsift.pools.rows import Rows, open_rows
from vlmsift.specs import PoolSpec

__all__ = ["FORMATS", "Pool", "image_bytes", "open_image", "open_pool"]

_LOOKED_AT = 64  # readable rows from which a format is guessed


def open_pool(
    path: str | Place | PoolSpec | Pool,
    images: str | Place | None = None,
    format: str | None = None,
    source_field: str | None = None,
) -> Pool:
    """Open a data set to choose from.

    Args:
        path: a spec of all that follows, or an open pool; else a `.json`, `.jsonl`, `.parquet` or WebDataset `.tar`
            file, a folder of such parts, or a folder that the method `save_to_disk` of a Hugging Face data set wrote:
            on a disk, or as a URL in a store (s3://, gs://, hf://, ...).
        images: the folder that image paths are relative to, here or there; by default the folder of the file.
        format: "llava", "messages" or "sharegpt"; by default guessed from the first rows.
        source_field: the field that names a row's sub-data-set or task; by default `source`, `task` or `dataset`.

    Raises:
        FormatError: nothing there, nothing that can be read as rows, or rows of no known format; says what was found.
        UsageError: something else than a path, an unknown `format`, an image folder that does not exist, or a
            `source_field` that no row has.
    """
    if isinstance(path, PoolSpec):
        return open_pool(path.data, path.images, path.format, path.source_field)
    if hasattr(path, "image_root"):  # a pool, or what can stand for one: a view of some rows, planted twins
        return path  # type: ignore[return-value]
    if not isinstance(path, (str, os.PathLike, StorePath)):
        cure = "call its save_to_disk(FOLDER)" if hasattr(path, "save_to_disk") else "write its rows to a file,"
        raise UsageError(f"a {type(path).__name__} is no pool: {cure} and give the path")
    path = as_place(path)
    if format is not None and format not in FORMATS:
        raise UsageError(f"no format {format!r}; known are {', '.join(FORMATS)}")
    root = as_place(images) if images is not None else path if path.is_dir() else path.parent
    rows = open_rows(path)
    if not root.is_dir():
        raise UsageError(f"no image folder {root}; name the folder that the rows' image paths are relative to")
    pool = Pool(path, rows, format or _guess(path, rows), root, source_field)
    if source_field is not None and all(pool.source(index) is None for index in range(len(pool))):
        raise UsageError(f"no row of {path} has a field {source_field!r}; the first one has: {_keys(rows)}")
    return pool


def _guess(path: Place, rows: Rows) -> str:
    if found := guess(list(islice(_readable(rows), _LOOKED_AT))):
        return found
    expected = "\n".join(f"  {name}: {format.EXPECTS}" for name, format in FORMATS.items())
    raise FormatError(
        f"{path}: of no known format. Its first row has: {_keys(rows)}. Expected is one of\n{expected}\n"
        'Rename the fields, or say which it is with format="..." (on the command line --format).'
    )


def _readable(rows: Rows) -> Iterator[dict[str, Any]]:
    for index in range(len(rows)):
        with suppress(SampleError):
            yield rows[index]


def _keys(rows: Rows) -> str:
    """The first readable row's keys and types, or why there is none."""
    row = next(_readable(rows), None)
    if row is None:
        try:
            row = rows[0]
        except SampleError as error:
            return f"no fields that can be read ({error})"
    return ", ".join(f"{key!r} ({type(value).__name__})" for key, value in list(row.items())[:20]) or "no fields"
