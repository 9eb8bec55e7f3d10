"""Writes Parquet files and saved Hugging Face data sets. In: tables of one schema, or rows. Out: the file or folder.

A data set folder is written by hand rather than by `save_to_disk`, which would open every image that a row names by
path and put its bytes in the row's place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlmsift.errors import FormatError

CHUNK = 1024  # rows per table and row group: with images of some 100 kB still far below Arrow's 2 GB per column
_UNFIT = (pa.ArrowException, OverflowError, UnicodeEncodeError)  # raised for values that no column can hold
_DATA = "data-00000-of-00001.arrow"
_STATE: dict[str, Any] = {
    **dict.fromkeys(("_format_columns", "_format_type", "_split")),
    "_format_kwargs": {},
    "_output_all_columns": False,
}


def write_tables(
    tables: Iterable[pa.Table], schema: pa.Schema, out: Path, container: str, about: Path | None = None
) -> None:
    """Write tables to the Parquet file `out`, or as a data set to the folder `out`, which must not exist yet.

    Args:
        tables: each (at most CHUNK, columns) of `schema`: columns, types and metadata of the result.
        container: "parquet" or "dataset"; raises FormatError where that cannot hold a type of the schema.
        about: the folder of a saved data set whose description, split and format the new one takes over.
    """
    try:
        if container == "parquet":
            with pq.ParquetWriter(out, schema) as writer:
                for table in tables:
                    writer.write_table(table)
            return
        out.mkdir()
        with pa.ipc.new_stream(str(out / _DATA), schema) as stream:
            for table in tables:
                stream.write_table(table)
        _describe(out, schema, about)
    except _UNFIT as error:
        raise FormatError(f"{container} cannot hold these rows: {error}. Export them as .jsonl instead.") from error


def _describe(out: Path, schema: pa.Schema, about: Path | None) -> None:
    """Write the two small files that make an Arrow stream a saved data set, and prove that it loads."""
    import datasets

    if about:
        state = json.loads((about / "state.json").read_text("utf-8"))
        description = json.loads((about / "dataset_info.json").read_text("utf-8"))
        whole = ("splits", "dataset_size", "download_size", "size_in_bytes")  # which are not those of a part
        description.update(dict.fromkeys(whole))
    else:
        state = dict(_STATE)
        description = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {})
    digest = hashlib.sha256()
    with (out / _DATA).open("rb") as file:
        while block := file.read(1 << 20):  # 1 MB at a time: images may be inside
            digest.update(block)
    state |= {"_data_files": [{"filename": _DATA}], "_fingerprint": digest.hexdigest()[:16]}
    (out / "state.json").write_text(json.dumps(state, indent=2, sort_keys=True), "utf-8")
    (out / "dataset_info.json").write_text(json.dumps(description, indent=2), "utf-8")
    try:
        datasets.load_from_disk(str(out))
    except Exception as error:
        raise FormatError(f"a data set cannot hold these rows: {error}. Export them as .parquet instead.") from error


def write_rows(rows: Iterable[dict[str, Any]], out: Path, container: str) -> None:
    """Write Python rows as tables. The rows are gone through twice: once for the schema, once to write.

    Arrow has one type per field: one that a row lacks becomes null, one of whole and broken numbers becomes float.
    Raises FormatError where a field holds values of several types; the message names it.
    """
    try:
        types = [_struct(chunk, container) for chunk in _chunks(iter(rows))]
        schema = pa.unify_schemas([pa.schema(list(kind)) for kind in types], promote_options="permissive")
    except pa.ArrowException as error:
        raise _mixed(container, str(error)) from error
    if any(_has_bytes(field.type) for field in schema):
        schema = _with_images(schema)
    struct = pa.struct(list(schema))  # (n,) structs become (n, columns)
    tables = (pa.Table.from_struct_array(pa.array(chunk, type=struct)) for chunk in _chunks(iter(rows)))
    write_tables(tables, schema, out, container)


def _chunks(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while chunk := list(islice(rows, CHUNK)):
        yield chunk


def _struct(chunk: list[dict[str, Any]], container: str) -> pa.StructType:
    """The type that holds all rows of a chunk. Raises FormatError naming the first field that no one type holds."""
    try:
        return pa.array(chunk).type
    except _UNFIT:
        for name in dict.fromkeys(name for row in chunk for name in row):
            values = [row.get(name) for row in chunk]
            try:
                pa.array(values)
            except _UNFIT as error:
                kinds = sorted({type(value).__name__ for value in values if value is not None})
                raise _mixed(container, f"field {name!r} ({', '.join(kinds)}): {error}") from error
        raise


def _mixed(container: str, what: str) -> FormatError:
    said = f"{container} has one type per field, and these rows do not: {what}. Export them as .jsonl instead."
    return FormatError(said)


def _has_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or any(_has_bytes(kind.field(i).type) for i in range(kind.num_fields))


def _with_images(schema: pa.Schema) -> pa.Schema:
    """Mark every {bytes, path} as an `Image()` feature, as the `datasets` library stores it."""
    import datasets

    def mark(feature: Any) -> Any:
        if isinstance(feature, dict):
            is_image = set(feature) == {"bytes", "path"} and feature["bytes"] == datasets.Value("binary")
            return datasets.Image() if is_image else {key: mark(value) for key, value in feature.items()}
        if isinstance(feature, list):  # how `datasets` before 4.0 spelled a list of objects
            return [mark(feature[0])]
        return type(feature)(mark(feature.feature)) if hasattr(feature, "feature") else feature

    features = datasets.Features.from_arrow_schema(schema)
    return datasets.Features({name: mark(feature) for name, feature in features.items()}).arrow_schema
