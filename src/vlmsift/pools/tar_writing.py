"""Writes a WebDataset archive. In: rows as Python values, with their images. Out: a tar file that reads back alike."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmsift.errors import FormatError, SampleError
from vlmsift.pools.tar_rows import compose
from vlmsift.pools.turns import Format
from vlmsift.pools.writing import image_suffix
from vlmsift.types import ImageRef

Stored = tuple[Mapping[str, Any], Sequence[ImageRef], Sequence[bytes]]
"""A row, its images as it names them, and the same ones encoded."""


def write_tar(rows: Iterable[Stored], out: Path, format: Format) -> None:
    """Write each row as `<place>.json` and `<place>.<number>.<kind>` per image; the row names its images so.

    Raises FormatError for a row that would not read back, in its `format`, with these turns and images.
    """
    with tarfile.open(out, "w:", format=tarfile.GNU_FORMAT) as archive:
        for place, (row, refs, images) in enumerate(rows):
            key = f"{place:09d}"
            names = [f"{number}{image_suffix(image)}" for number, image in enumerate(images)]
            said = dict(zip(refs, names, strict=True))  # one image may stand in several places
            named = {name: image for name, image in zip(names, images, strict=True) if name in said.values()}
            text = json.dumps(_naming(row, said), ensure_ascii=False, default=str).encode("utf-8", "backslashreplace")
            _prove(key, text, named, format, images, row)
            for name, content in {"json": text, **named}.items():
                member = tarfile.TarInfo(f"{key}.{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def _naming(value: Any, said: Mapping[ImageRef, str]) -> Any:
    """The same value with every image, by path or in bytes, replaced by its member's name."""
    if isinstance(value, (str, bytes)):
        return said.get(value.removeprefix("file://") if isinstance(value, str) else value, value)
    if isinstance(value, Mapping):
        if set(value) == {"bytes", "path"}:
            return said.get(value["bytes"] or value["path"], value["path"])
        return {key: _naming(inner, said) for key, inner in value.items()}
    return [_naming(inner, said) for inner in value] if isinstance(value, list) else value


def _prove(
    key: str, text: bytes, named: Mapping[str, bytes], format: Format, images: Sequence[bytes], row: Mapping[str, Any]
) -> None:
    """Raises FormatError where the members do not read as the row does."""
    try:
        turns, found = format.read(compose(key, {"json": text}, named))
        if turns == format.read(row)[0] and list(found) == list(images):
            return
        why = "it would read back otherwise"
    except SampleError as error:
        why = str(error)
    raise FormatError(f"row {row.get('id', key)!r} cannot go into a tar archive: {why}. Export it as .jsonl instead.")
