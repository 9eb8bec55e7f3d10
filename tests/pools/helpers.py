"""Small pools for the tests of `formats`. In: rows as Python values. Out: files and folders of every container."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vlmsift.pools import Pool, open_pool
from vlmsift.specs import PoolSpec
from vlmsift.types import ImageRef, Turn

Row = dict[str, Any]
SUFFIXES = {"json": ".json", "jsonl": ".jsonl", "parquet": ".parquet", "dataset": "/"}
SHARED = Path(os.environ.get("VLMSIFT_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


def png(color: str = "red", size: tuple[int, int] = (4, 3)) -> bytes:
    """An encoded picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


def llava_row(index: int, **extra: Any) -> Row:
    """A LLaVA row of two rounds and one image."""
    turns = [
        ("human", f"<image>\nWhat is {index}?"),
        ("gpt", "Ein Bär 😀"),
        ("human", "Sure?"),
        ("gpt", f"Yes, {index}."),
    ]
    conversations = [{"from": who, "value": what} for who, what in turns]
    return {"id": f"r{index}", "image": f"images/{index}.png", "conversations": conversations, **extra}


def varied_llava_rows() -> list[Row]:
    """LLaVA rows: one image, no image, two images, a system turn; every id is a string."""
    several = {
        "id": "several",
        "images": ["a.png", "b/c.jpg"],
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "<image> and <image>: which?"},
            {"from": "gpt", "value": "The first."},
        ],
        "source": "pairs",
    }
    plain = {"id": "text", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": ""}]}
    return [llava_row(0, source="vqa"), plain, several, llava_row(3)]


def write(folder: Path, rows: Sequence[Row], container: str, name: str = "pool") -> Path:
    """Rows to a new file or folder in a container, by the libraries that users write them with."""
    path = folder / (name + SUFFIXES[container])
    if container == "json":
        path.write_text(json.dumps(rows, ensure_ascii=False, indent=2), "utf-8")
    elif container == "jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    elif container == "parquet":
        pq.write_table(pa.Table.from_struct_array(pa.array(rows)), path)
    else:
        import datasets

        datasets.Dataset(pa.Table.from_struct_array(pa.array(rows))).save_to_disk(str(path))
    return path


def text_pool(folder: Path, text: str | bytes, name: str = "pool.json") -> Path:
    """A file with exactly this text."""
    path = folder / name
    path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    return path


def raw_rows(path: Path) -> list[str]:
    """The source texts of a JSON list or of JSONL, found without the code under test: by Python's own decoder."""
    text = path.read_text("utf-8")
    if path.suffix == ".jsonl":
        return [line for line in text.splitlines() if line.strip()]
    decoder, position, found = json.JSONDecoder(), text.index("[") + 1, []
    while True:
        while text[position] in " \t\r\n,":
            position += 1
        if text[position] == "]":
            return found
        _, end = decoder.raw_decode(text, position)
        found.append(text[position:end])
        position = end


def meaning(pool: Pool) -> list[tuple[str, tuple[Turn, ...], tuple[ImageRef, ...], str | None]]:
    """What all of a pool's samples mean, apart from how they are written down."""
    samples = [pool[index] for index in range(len(pool))]
    return [(sample.id, sample.turns, sample.images, sample.source) for sample in samples]


def reopened(path: Path, source: Pool) -> Pool:
    """An exported pool, with the images of its source."""
    return open_pool(PoolSpec(path, images=source.image_root))
