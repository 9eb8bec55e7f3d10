"""Little LLaVA pools on disk, and runs of the toy on them.

In: what should be wrong with the rows, if anything. Out: folders with `pool.json` and `images/`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from vlmsift.runs.run import Run

Row = dict[str, Any]
SIGNALS = ("delta_attnmask:depth=0.5", "answer_loss", "image_attention", "hidden_mean:dimensions=8", "random")
"""Every pass but the blind one, and a vector."""
ANSWERS = ("yes", "no", "Ein Bär sitzt im Wald.", "two", "no", "a red kite over the grey sea")


def picture(seed: int, side: int = 24) -> bytes:
    """An encoded PNG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + seed % 7, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def conversation(question: str, answer: str) -> list[dict[str, str]]:
    """One round, as LLaVA writes it."""
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def llava_rows(count: int, text_only: Sequence[int] = ()) -> list[Row]:
    """Rows with one image each (none at `text_only`), answers that repeat, and fields that vlmsift does not know."""
    rows: list[Row] = []
    for index in range(count):
        question = f"What is {'x' * (index * 5 % 23)} number {index}?"
        row: Row = {"id": f"r{index}", "weight": index / 4, "meta": {"n": index, "ü": ["ü"]}}
        if index not in text_only:
            row["image"] = f"images/{index}.png"
            question = f"<image>\n{question}"
        rows.append({**row, "conversations": conversation(question, ANSWERS[index % len(ANSWERS)])})
    return rows


def write_pool(folder: Path, rows: Sequence[Row], name: str = "pool.json") -> Path:
    """Rows as JSON (or, by the name, JSONL), and for each path `images/N.png` a picture of noise; returns the file."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for row in rows:
        if str(row.get("image", "")).startswith("images/"):
            (folder / row["image"]).write_bytes(picture(int(Path(row["image"]).stem)))
    path = folder / name
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) if path.suffix == ".jsonl" else json.dumps(rows, ensure_ascii=False, indent=1))
    return path


def assert_same_numbers(run: Run, reference: Run, ids: Sequence[str], tolerance: float) -> None:
    """The rows `ids` hold the same in both runs; numbers may differ by `tolerance`, because batches may."""
    tables = []
    for one in (run, reference):
        rows = one.table().drop_columns(["index"])
        tables.append(rows.filter(pa.compute.is_in(rows["id"], pa.array(ids))))
    ours, theirs = tables
    assert len(ours) == len(ids)
    for name in ours.column_names:
        if not pa.types.is_float32(ours.schema.field(name).type):
            assert name == "hidden_mean" or ours[name].equals(theirs[name]), name
            continue
        assert ours[name].is_null().equals(theirs[name].is_null()), name
        numbers = [table[name].to_numpy().astype(float) for table in tables]
        np.testing.assert_allclose(numbers[0], numbers[1], rtol=0, atol=tolerance, err_msg=name)
    vectors = [np.stack([np.full(8, np.nan) if v is None else v for v in t["hidden_mean"].to_pylist()]) for t in tables]
    np.testing.assert_allclose(vectors[0], vectors[1], rtol=0, atol=tolerance)
