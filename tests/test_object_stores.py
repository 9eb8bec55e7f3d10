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
from vlmsift.cli import main
from vlmsift.errors import RunMismatch, UsageError
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
def run(home: Path, model: vlmsift.Adapter, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Of the JSONL on the disk."""
    out = tmp_path_factory.mktemp("runs") / "run"
    return vlmsift.score(**with_specs(pool=home / "pool.jsonl", model=model, out=out, workers=0, **HOW))


@pytest.mark.parametrize("name", ["pool.jsonl", "pool.parquet", "shards/pool.tar"])
def test_the_numbers_of_a_pool_in_a_store_are_those_of_the_disk(
    name: str, home: Path, model: vlmsift.Adapter, run: Run, s3_url: str, tmp_path: Path
) -> None:
    """Read by two forked processes, each with connections of its own."""
    pool = vlmsift.open_pool(str(upload(home, StorePath(s3_url)) / name))
    ours = vlmsift.score(**with_specs(pool=pool, model=model, out=tmp_path / "ours", workers=2, **HOW))
    local = vlmsift.score(**with_specs(pool=home / name, model=model, out=tmp_path / "local", workers=0, **HOW))
    assert ours.signals_hash() == local.signals_hash()
    assert ours.table().equals(run.table())
    assert ours.settings["info"]["pool"] == f"{s3_url}/{name}"


def test_from_a_store_to_a_store(home: Path, model: vlmsift.Adapter, run: Run, s3_url: str, tmp_path: Path) -> None:
    """Pool, run, selection and export in a store; scored by two shards in turn, then once more for nothing."""
    upload(home, StorePath(s3_url))
    how = {**HOW, "pool": f"{s3_url}/pool.jsonl", "model": model, "out": f"{s3_url}/run", "workers": 0}
    for shard in ("0/2", "1/2", "0/1"):
        vlmsift.score(**with_specs(**how, shard=shard))
    ours = Run.open(f"{s3_url}/run")
    assert ours.signals_hash() == run.signals_hash()
    assert ours.query("answer_tokens > 1").tolist() == run.query("answer_tokens > 1").tolist()
    here, there = vlmsift.select(run, keep="25%"), vlmsift.select(ours, keep="25%")
    assert str(there.save("quarter")) == f"{s3_url}/run/selections/quarter.parquet"
    loaded = vlmsift.Selection.load(ours, "quarter")
    assert (loaded.ids, dict(loaded.dropped)) == (here.ids, dict(here.dropped))
    with pytest.raises(UsageError, match=r"no selection 'half'. It has: quarter"):
        vlmsift.Selection.load(ours, "half")
    out, reference = loaded.export(f"{s3_url}/kept.jsonl"), here.export(tmp_path / "kept.jsonl")
    assert out.read_bytes() == reference.read_bytes()
    assert list(vlmsift.open_pool(out).ids) == [json.loads(line)["id"] for line in reference.open()]
    with pytest.raises(RunMismatch, match=rf"{s3_url}/run holds a run with other settings"):
        vlmsift.score(**with_specs(**{**how, "part_size": 4}))
    (StorePath(s3_url) / "pool.jsonl").write_bytes(b'{"conversations": []}')
    with pytest.raises(RunMismatch, match="its content differs"):
        loaded.export(f"{s3_url}/other.jsonl")


def test_the_command_line_takes_urls(
    home: Path, toy_path: Callable[[str], Path], s3_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(home, StorePath(s3_url))
    for words in (
        f"sift {s3_url}/pool.parquet --model {toy_path('llava')} --out {s3_url}/sifted.tar --keep 4 --no-plants "
        "--signal answer_loss --selector top:by=answer_loss --workers 0",
        f"select {s3_url}/sifted-run --selector top:by=answer_loss --keep 3 --name three",
        f"export {s3_url}/sifted-run --name three --out {s3_url}/three/",
    ):
        with pytest.raises(SystemExit) as ending:
            main(words.split())
        assert not ending.value.code, capsys.readouterr().err
    kept, three = vlmsift.open_pool(f"{s3_url}/sifted.tar"), vlmsift.open_pool(f"{s3_url}/three")
    assert (len(kept), len(three)) == (4, 3)
    assert set(three.ids) < set(kept.ids)
    with pytest.raises(SystemExit):
        main(f"score s3://nosuchbucket/pool.jsonl --model {toy_path('llava')} --out {s3_url}/other".split())
    assert "Nor is there s3://nosuchbucket. Look at its name" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(f"score {s3_url}/pool.jsonl --model {toy_path('llava')} --out s3://nosuchbucket/run".split())
    assert "no such bucket: s3://nosuchbucket is not there" in capsys.readouterr().err


def test_an_image_that_a_store_does_not_hold_is_an_error_row(
    home: Path, model: vlmsift.Adapter, run: Run, s3_url: str, tmp_path: Path
) -> None:
    store = upload(home, StorePath(s3_url))
    (store / "images" / "3.png").unlink()
    ours = vlmsift.score(**with_specs(pool=store / "pool.jsonl", model=model, out=tmp_path / "run", workers=0, **HOW))
    assert ours.summary()["errors"] == {"missing image": 1}
    assert ours.table(["reason"])["reason"].to_pylist()[3].startswith("missing image: 'images/3.png'")
