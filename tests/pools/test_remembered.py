"""A cache of what was worked out of files: the same pool, opened late; a changed file, a damaged cache, none at all."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.pools.helpers import llava_row, write
from vlmsift.pools import open_pool, pool, remembered, text_rows
from vlmsift.pools.pool import Pool


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small pools are large, and files have settled."""
    monkeypatch.setenv("VLMSIFT_CACHE", str(tmp_path / "cache"))
    for module in (remembered, pool):
        monkeypatch.setattr(module, "LARGE", 3)
    monkeypatch.setattr(text_rows, "LEAST_ROW", 1)
    monkeypatch.setattr(remembered, "_TICK", 0)
    return tmp_path / "cache"


def facts(found: Pool) -> list[Any]:
    samples = [found[index] for index in range(len(found))]
    return [found.container, found.fingerprint(), list(found.ids), samples]


def refuse(*args: Any, **named: Any) -> Any:
    raise AssertionError("worked out again")


@pytest.mark.parametrize("container", ["json", "jsonl", "parquet", "dataset"])
def test_the_second_time_nothing_is_gone_through(
    container: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{**llava_row(row), "id": f"r{row % 4}", "source": [None, "a", "b"][row % 3]} for row in range(9)]
    path = write(tmp_path, rows, container)
    with monkeypatch.context() as patch:
        patch.setenv("VLMSIFT_CACHE", "")
        plain = facts(open_pool(path))
    assert not cache.exists()
    first = facts(open_pool(path))
    for name in ("array_spans", "line_spans"):
        monkeypatch.setattr(text_rows, name, refuse)
    monkeypatch.setattr(Pool, "_read_labels", refuse)
    monkeypatch.setattr(pool, "fingerprint", refuse)
    second = open_pool(path)
    assert facts(second) == first == plain
    assert (second.ids[4], second.ids[-1], second.source(4)) == ("r0#2", "r0#3", "a")
    assert second.ids == open_pool(path).ids == tuple(plain[2])


def test_a_changed_file_is_another(cache: Path, tmp_path: Path) -> None:
    path = write(tmp_path, [llava_row(row) for row in range(5)], "jsonl")
    first, before = open_pool(path), path.stat()
    assert first.ids[0] == "r0"
    digest = first.fingerprint()
    text = path.read_text().replace('"r0"', '"q0"')
    time.sleep(0.02)  # a tick of the clock of this file system
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    changed = path.stat()
    assert (changed.st_size, changed.st_mtime_ns, changed.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    again = open_pool(path)
    assert again.ids[0] == "q0"
    assert again.fingerprint() != digest


def test_a_damaged_cache_is_written_anew_and_one_that_cannot_be_is_none(cache: Path, tmp_path: Path) -> None:
    path = write(tmp_path, [llava_row(row) for row in range(5)], "jsonl")
    before = facts(open_pool(path))
    kept = sorted(cache.iterdir())
    assert len(kept) == 3
    kept[0].write_bytes(kept[0].read_bytes()[:50])
    kept[1].write_bytes(kept[2].read_bytes())  # of something else
    assert facts(open_pool(path)) == before
    for file in kept:
        file.unlink()
    cache.rmdir()
    cache.write_text("a file")
    assert facts(open_pool(path)) == before


def test_small_pools_and_files_just_written_leave_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts(open_pool(write(tmp_path, [llava_row(row) for row in range(2)], "parquet")))
    monkeypatch.setattr(remembered, "_TICK", 10**12)
    facts(open_pool(write(tmp_path, [llava_row(row) for row in range(9)], "jsonl")))
    assert not cache.exists()
