"""The demo on a small pool: what it writes, and that its figures are those of the run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vlmsift.demo import run
from vlmsift.demo.run import auroc, run_demo
from vlmsift.runs.run import Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_demo(tmp_path_factory.mktemp("demo") / "out with blanks", size=400, seed=3, lesson=False)


def test_writes_pool_run_rows_and_figure(folder: Path) -> None:
    rows = json.loads((folder / "kept.json").read_text(encoding="utf-8"))
    pool = json.loads((folder / "pool-400-seed3" / "pool.json").read_text(encoding="utf-8"))
    assert len(pool) == 400
    assert len(rows) == 80
    assert all(row in pool for row in rows)
    assert (folder / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert Run.open(folder / "run").summary()["ok"] == 400


def test_delta_tells_clean_from_spoiled_better_than_its_control(folder: Path) -> None:
    truth = [json.loads(line) for line in (folder / "pool-400-seed3" / "truth.jsonl").read_text().splitlines()]
    kinds = {row["id"]: row["kind"] for row in truth}
    table = Run.open(folder / "run").table(["id", "delta_attnmask", "delta_random"]).to_pandas()
    table = table[table.id.map(kinds) != "duplicate"]
    clean = (table.id.map(kinds) == "clean").to_numpy()
    delta = auroc(clean, table.delta_attnmask.to_numpy(float))
    assert delta > 0.6
    assert delta > auroc(clean, table.delta_random.to_numpy(float))


def test_the_same_command_goes_on_from_what_is_there(folder: Path) -> None:
    before = Run.open(folder / "run").signals_hash()
    run_demo(folder, size=400, seed=3, lesson=False)
    assert Run.open(folder / "run").signals_hash() == before


def test_auroc_of_a_hand_computed_case() -> None:
    clean = np.array([True, True, False, False])
    assert auroc(clean, np.array([3.0, 1.0, 2.0, 0.0])) == 0.75  # of four pairs one is in the wrong order
    assert auroc(clean, np.array([3.0, np.nan, 2.0, 0.0])) == 1.0


def test_the_last_act_trains_on_parts_and_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "TESTS", 30)
    run_demo(tmp_path / "demo", size=60, seed=1)
    said = capsys.readouterr().out
    for name in ("untrained", "random", "delta-attnmask", "judge-cover"):
        assert said.count(f" {name} ") >= 2, "once for each pool"
    assert said.count("of this pool looks spoiled") == 2
    assert "12 of 60" in said
    assert "6 of 30" in said
    assert not (tmp_path / "demo" / "taught").exists()
    assert "training" in said.splitlines()[-2]
    assert said.splitlines()[-1] == f"8. open the report: {tmp_path / 'demo' / 'report.html'}"
    assert "near-duplicates" in (tmp_path / "demo" / "report.html").read_text().lower()
