"""In: a count and a seed. Out: a folder with questions about digits that no pool and no training has shown.

test.json      LLaVA rows, as in a demo pool, all of them right
images/*.png   one picture per row
"""

from __future__ import annotations

import json
from pathlib import Path

from vlmsift.demo.questions import draw_samples
from vlmsift.files import write_text

SEED = 5  # of the questions; the embedded model's card was measured on others


def write_held_out(out: Path, count: int = 1500, seed: int = SEED) -> Path:
    """Write a test set of the digits' `test` split; the same arguments write the same bytes. Returns `test.json`."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for sample in draw_samples("test", count, seed):
        image, picture = f"images/{sample.id}.png", sample.images[0]
        assert isinstance(picture, bytes)
        (out / image).write_bytes(picture)
        turns = [{"from": name, "value": turn.text} for name, turn in zip(("human", "gpt"), sample.turns, strict=True)]
        rows.append({"id": sample.id, "source": sample.source, "image": image, "conversations": turns})
    write_text(out / "test.json", json.dumps(rows, indent=1) + "\n")
    return out / "test.json"
