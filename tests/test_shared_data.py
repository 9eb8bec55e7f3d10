"""Real pools end to end with a Qwen2.5-VL: scored, selected and exported, and the kept rows are the source's."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import vlmsift
from vlmsift.specs import EngineSpec, PoolSpec

DATA = Path(os.environ.get("VLMSIFT_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
ROWS = 60


@pytest.fixture(scope="module")
def model(toy_path: Callable[[str], Path]) -> vlmsift.Adapter:
    return vlmsift.open_model(toy_path("qwen2_5_vl"))


@pytest.mark.parametrize("name", ["easy_vqa", "nlvr", "openstax"])
def test_a_slice_of_real_data(name: str, model: vlmsift.Adapter, tmp_path: Path) -> None:
    if not (DATA / name / "data.json").exists():
        pytest.skip(f"no {DATA / name}; say where the data sets are with VLMSIFT_SHARED_DATA")
    rows = json.loads((DATA / name / "data.json").read_text(encoding="utf-8"))[:ROWS]
    pool = tmp_path / "slice.json"
    pool.write_text(json.dumps(rows), encoding="utf-8")

    run = vlmsift.score(
        PoolSpec(pool, images=DATA / name), model, tmp_path / "run", engine=EngineSpec(tokens_per_batch=4096)
    )
    summary = run.summary()
    assert (summary["ok"], summary["errors"]) == (ROWS, {})
    assert set(summary["undefined"].values()) == {0}

    selection = vlmsift.select(run, keep="20%")
    kept = json.loads(selection.export(tmp_path / "kept.json").read_text(encoding="utf-8"))
    assert len(kept) == len(selection.ids) == ROWS // 5
    assert kept == [row for row in rows if row["id"] in selection.ids]
    values = dict(zip(*run.table(["id", "delta_attnmask"]).to_pydict().values(), strict=True))
    assert len(set(values.values())) > ROWS // 2, "the signal tells the samples apart"
