"""A whole comparison on the embedded model: scored, selected, trained, judged, and the same again from its files."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from tests.experiment.bench import write_plan
from vlmsift.experiment import validate


def test_methods_against_random_and_full(tmp_path: Path, data: Path) -> None:
    plan = write_plan(
        tmp_path,
        data,
        methods=[
            {"name": "full", "augmentations": ["none"]},
            {"name": "random", "augmentations": ["none"]},
            "delta-attnmask",
            {
                "name": "loss",
                "signals": ["answer_loss"],
                "pick": "lowest",
                "balance": "none",
                "augmentations": ["none"],
            },
        ],
        seeds=[0],
        schedule=["epochs", "steps"],
        augmentations=["none", {"name": "top-50", "variant": "top", "probability": 0.5}],
    )
    found = validate(plan)
    assert (found.errors, found.pending) == ({}, [])
    assert len(found.rows) == 2 * (4 + 1)  # schedules x (methods, one of them augmented as well)
    assert found.table is not None
    assert found.figure is not None
    assert pq.read_table(found.table).to_pylist() == found.rows
    assert found.figure.read_bytes().startswith(b"\x89PNG")
    for row in found.rows:
        assert row["samples"] == (40 if row["method"] == "full" else 8)
        assert row["steps"] == (1 if row["schedule"] == "epochs" and row["method"] != "full" else 5)
        assert 0 <= row["accuracy"] <= 1
        assert row["cost_ratio"] > 0
        assert (row["selection_seconds"] == 0) == (row["method"] == "full")
    assert validate(plan).rows == found.rows
