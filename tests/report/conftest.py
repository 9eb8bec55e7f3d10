"""A run without a model, of a pool that wishes the page ill, and a selection that drops copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sample_pools import conversation, llava_rows, write_pool
from tests.sample_runs import rows_of
from vlmsift.pools import open_pool
from vlmsift.runs.run import Run
from vlmsift.selecting import select

ROWS = 60
COPY_OF = 20  # row 21 is as good as this one
SCRIPT = "<script>alert('x')</script>"
HOSTILE = {
    0: {"id": f'"><img src=x onerror=alert(1)> {SCRIPT}', "source": "'\"</td></table>&amp;"},
    1: {"conversations": conversation("<image>\n" + SCRIPT, "שלום \u202e drow a \x00\x07 </div>")},
    2: {"conversations": conversation("<image>\nhow long?", "long " * 150_000)},
    3: {"conversations": conversation("<image>\ntoo long?", "x" * 2_000_000)},
    4: {"image": "../outside.png"},
    5: {"image": "https://example.org/a.png"},
}


def make_pool(folder: Path) -> Path:
    """60 rows; six of them are hostile."""
    rows = llava_rows(ROWS, text_only=(7,))
    for place, row in enumerate(rows):
        row["source"] = f"task {place % 3}"
        row.update(HOSTILE.get(place, {}))
    return write_pool(folder, rows)


def make_run(folder: Path, data: Path, **changes: Any) -> Run:
    """A finished run of that pool: a loss, a score that masks, a number that is constant, and a vector."""
    pool = open_pool(data)
    count = len(pool)
    generator = np.random.default_rng(0)
    score = generator.normal(size=count)
    vectors = generator.normal(size=(count, 4))
    vectors[COPY_OF + 1] = vectors[COPY_OF]
    score[[0, 1, 2]] = 5, 4, 3  # the hostile ones are shown
    score[3] = np.nan
    signals = {"delta_attnmask": score, "answer_loss": np.exp(-score), "flat": np.ones(count), "hidden_mean": vectors}
    masks = {"signal": "delta_attnmask", "parameters": {"depth": 0.5, "ratio": 0.5, "eligible": "image"}}
    kinds: dict[str, Any] = {"delta_attnmask": masks, "answer_loss": {"signal": "answer_loss", "parameters": {}}}
    identity = {
        "data": {"fingerprint": pool.fingerprint(), "format": pool.format, "first_images": None},
        "model": {"name": SCRIPT, "family": "llava", "dtype": "float32", "weights": "none of ours"},
        "rows": count,
        "part_size": 16,
        "signals": {
            name: {"width": 4 if np.ndim(values) > 1 else 1, "unit": "nats", "higher_means": "m", **kinds.get(name, {})}
            for name, values in signals.items()
        },
    }
    info = {"pool": str(data), "images": str(data.parent), "versions": {"torch": "2"}, "model": "m"}
    run = Run.create_or_resume(folder, {"identity": identity, "info": info})
    reasons: list[str | None] = [None] * count
    reasons[3] = f"text too long: 2,000,000 characters {SCRIPT}"
    reasons[10] = reasons[11] = "missing image: 'a.png' is not a file"
    fixed: dict[str, Any] = {
        "id": list(pool.ids),
        "source": [pool.source(place) for place in range(count)],
        "answer_key": [["yes", "no", SCRIPT][place % 3] for place in range(count)],
        "answer_tokens": generator.integers(1, 40, count),
        "reason": reasons,
        **changes,
    }
    rows = rows_of(signals, **fixed)
    for part, start in enumerate(range(0, count, 16)):
        run.write_part(part, {name: values[start : start + 16] for name, values in rows.items()})
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """With the selections "copies" (semdedup) and "top"."""
    folder = tmp_path_factory.mktemp("report")
    run = make_run(folder / f"a run {SCRIPT.replace('/', '')}", make_pool(folder / "pool"))
    select(run, "top:by=delta_attnmask", "50%").save("top")
    select(run, "semdedup:vector=hidden_mean,clusters=2", "60%").save("copies")
    return run
