"""Writes rows as text. In: rows as Python values, images as bytes. Out: JSON or JSONL, and image files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vlmsift.files import replacing, sync_all
from vlmsift.places import Place, StorePath

LAYOUTS = {"json": (b"[\n", b",\n", b"\n]\n"), "jsonl": (b"", b"\n", b"\n")}  # before, between and after rows
_SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp"}


def write_text(rows: Iterable[Mapping[str, Any]], out: Path, container: str) -> None:
    """Write rows as a JSON list, one row per line, or as JSONL. NaN stays NaN, as Python's json module reads it."""
    write_joined(map(_encode, rows), out, LAYOUTS[container])


def write_joined(raws: Iterable[bytes | memoryview], out: Path, layout: tuple[bytes, bytes, bytes]) -> None:
    """Write the texts of rows, with what stands before, between and after them."""
    opening, separator, closing = layout
    with out.open("wb") as file:
        file.write(opening)
        for place, raw in enumerate(raws):
            file.write(separator if place else b"")
            file.write(raw)
        file.write(closing)


def _encode(row: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False, default=str).encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair has no UTF-8, but it has an escape
        return json.dumps(row, default=str).encode("ascii")


def image_suffix(image: bytes) -> str:
    """What the name of an encoded image ends with, told by its first bytes."""
    return next((suffix for start, suffix in _SUFFIXES.items() if image.startswith(start)), ".bin")


class ImageFolder:
    """The folder `<stem of out>_images` for images that lay in the rows as bytes; made when the first one comes."""

    def __init__(self, out: Place) -> None:
        self._out = out
        self._name = f"{out.stem}_images"
        self._stored: set[str] = set()  # paths in a store

    def keep(self, image: bytes) -> str:
        """Write an image under the hash of its content; returns its path relative to the folder of `out`."""
        path = f"{self._name}/{hashlib.sha256(image).hexdigest()[:32]}{image_suffix(image)}"
        target = self._out.parent / path
        if isinstance(target, StorePath):
            if path not in self._stored:
                target.write_bytes(image)
                self._stored.add(path)
            return path
        # one that a crash of the machine cut off is written again
        if not target.exists() or target.stat().st_size != len(image):
            with replacing(target, sync=False) as temporary:
                temporary.write_bytes(image)
        return path

    def sync(self) -> None:
        """Bring all of them to the disk at once, before a file that names them is finished."""
        if isinstance(folder := self._out.parent / self._name, Path):
            sync_all(folder)

    def unpack(self, value: Any) -> Any:
        """The same value with every bytes, or {bytes, path} as `datasets` stores images, replaced by a path."""
        if isinstance(value, bytes):
            return self.keep(value)
        if isinstance(value, dict):
            if set(value) == {"bytes", "path"}:
                return self.keep(value["bytes"]) if value["bytes"] else value["path"]
            return {key: self.unpack(inner) for key, inner in value.items()}
        return [self.unpack(inner) for inner in value] if isinstance(value, list) else value
