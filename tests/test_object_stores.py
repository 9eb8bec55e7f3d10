"""The verbs on a pool in a local S3 server: the same numbers and the same files as on a disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vlmsift
from tests.pools.test_stores import upload
from tests.sample_pools import SIGNALS, llava_rows, write_pool
from tests.specs import with_specs
from vlmsift.errors import RunMismatch
from vlmsift.places import StorePath
from vlmsift.runs.run import Run

ROWS = 16
HOW: dict[str, Any] = {"signals": SIGNALS[:1], "part_size": 8}


@pytest.fixture(scope="module")
def model(toy_path: Callable[[str], Path]) -> vlmsift.Adapter:
    return vlmsift.open_model(toy_path("llava"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pools of the same rows as JSONL, Parquet and tar, beside their images."""
    folder = tmp_path_factory.mktemp("home")
    pool = vlmsift.open_pool(write_pool(folder, llava_rows(ROWS, text_only=(5,)), "pool.jsonl"))
    for name in ("pool.parquet", "shards/pool.tar"):
        pool.export(range(ROWS), folder / name)
    return folder


@pytest.fixture(scope="module")
def run(home: Path, model: vlmsift.Adapter) -> Run:
    """Of the JSONL on the disk."""
    return vlmsift.score(**with_specs(pool=home / "pool.jsonl", model=model, out=home / "run", workers=0, **HOW))


@pytest.mark.parametrize("name", ["pool.jsonl", "pool.parquet", "shards/pool.tar"])
def test_the_numbers_of_a_pool_in_a_store_are_those_of_the_disk(
    name: str, home: Path, model: vlmsift.Adapter, run: Run, s3_url: str, tmp_path: Path
) -> None:
    """Read by two forked processes, each with connections of its own."""
    pool = vlmsift.open_pool(str(upload(home, StorePath(s3_url)) / name))
    ours = vlmsift.score(**with_specs(pool=pool, model=model, out=tmp_path / "run", workers=2, **HOW))
    assert ours.summary() == run.summary()
    assert ours.signals_hash() == run.signals_hash()
    assert ours.settings["info"]["pool"] == f"{s3_url}/{name}"


def test_from_a_store_to_a_store(home: Path, model: vlmsift.Adapter, run: Run, s3_url: str, tmp_path: Path) -> None:
    upload(home, StorePath(s3_url))
    ours = vlmsift.score(**with_specs(pool=f"{s3_url}/pool.jsonl", model=model, out=tmp_path / "run", workers=0, **HOW))
    selection, here = vlmsift.select(ours, keep="25%"), vlmsift.select(run, keep="25%")
    assert selection.ids == here.ids
    out, reference = selection.export(f"{s3_url}/kept.jsonl"), here.export(tmp_path / "kept.jsonl")
    assert out.read_bytes() == reference.read_bytes()
    again = vlmsift.open_pool(out)
    assert [again[row].id for row in range(len(again))] == [json.loads(line)["id"] for line in reference.open()]
    (StorePath(s3_url) / "pool.jsonl").write_bytes(b'{"conversations": []}')
    with pytest.raises(RunMismatch, match="its content differs"):
        selection.export(f"{s3_url}/other.jsonl")


def test_an_image_that_a_store_does_not_hold_is_an_error_row(
    home: Path, model: vlmsift.Adapter, run: Run, s3_url: str, tmp_path: Path
) -> None:
    store = upload(home, StorePath(s3_url))
    (store / "images" / "3.png").unlink()
    ours = vlmsift.score(**with_specs(pool=store / "pool.jsonl", model=model, out=tmp_path / "run", workers=0, **HOW))
    assert ours.summary()["errors"] == {"missing image": 1}
    assert ours.table(["reason"])["reason"].to_pylist()[3].startswith("missing image: 'images/3.png'")
