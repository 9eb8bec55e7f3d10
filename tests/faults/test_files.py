"""Files that are damaged, foreign, or cannot be written; clocks and process numbers that mean nothing."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import vlmsift
from tests.faults.conftest import PART, ROWS, Home, seeded
from tests.sample_pools import llava_rows, write_pool
from vlmsift import files
from vlmsift.errors import RunMismatch, UsageError
from vlmsift.runs import Run, record
from vlmsift.scoring import feed, patience
from vlmsift.specs import EngineSpec

CURE = r"Delete that part and start the same score command again"


@pytest.fixture
def run(home: Home, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(home.here.folder, tmp_path / "run"))


@pytest.mark.parametrize("way", ["cut off", "empty", "a flipped bit"])
def test_a_damaged_part_is_told_and_can_be_made_again(way: str, home: Home, run: Path) -> None:
    part = home.parts(run)[3]
    content = part.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 3] ^= 16
    part.write_bytes({"cut off": content[: len(content) // 2], "empty": b"", "a flipped bit": bytes(flipped)}[way])
    for attempt in (lambda: Run.open(run).table(), lambda: home.score(run)):
        with pytest.raises(UsageError, match=rf"cannot be read .*{CURE}"):
            attempt()
    part.unlink()
    home.score(run)
    home.assert_whole(run, home.here)


def test_a_flipped_bit_is_told_wherever_it_is_or_changes_nothing(home: Home, run: Path) -> None:
    part = home.parts(run)[3]
    content, table = part.read_bytes(), home.here.check_part(3)
    told, luck = 0, seeded(5)
    for place in luck.integers(0, len(content), 400):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(luck.integers(8))
        part.write_bytes(flipped)
        try:
            assert Run.open(run).check_part(3).equals(table), place
        except (UsageError, RunMismatch):
            told += 1
    assert told > 200


@pytest.mark.parametrize("way", ["another run's", "nobody's", "with other columns"])
def test_a_foreign_part_is_refused_by_name(way: str, home: Home, run: Path) -> None:
    part = home.parts(run)[3]
    table = pq.read_table(part)
    if way == "with other columns":
        pq.write_table(table.drop_columns("answer_loss"), part)
    else:
        pq.write_table(table.replace_schema_metadata({b"vlmsift.identity": b"0" * 64} if way[0] == "a" else None), part)
    told = "has other columns" if way == "with other columns" else "carries the identity of another run"
    for attempt in (lambda: Run.open(run).summary(), lambda: home.score(run)):
        with pytest.raises(RunMismatch, match=rf"part-000003\.parquet {told}.*{CURE}"):
            attempt()
    part.unlink()
    home.score(run)
    home.assert_whole(run, home.here)


def test_a_full_disk(home: Home, tmp_path: Path, monkeypatch: Any) -> None:
    """A file system of 128 KiB where one may be mounted, else writes that fail as on a full one."""
    small = tmp_path / "small"
    small.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(small)]
    mounted = os.geteuid() == 0 and subprocess.run(options, capture_output=True).returncode == 0
    try:
        with monkeypatch.context() as patch:
            if not mounted:
                written = iter(range(9))

                def full(self: Path, content: Any) -> int:
                    if next(written, None) is None:
                        raise OSError(errno.ENOSPC, "No space left on device", str(self))
                    return Path.open(self, "wb").write(content)

                patch.setattr(Path, "write_bytes", full)
            with pytest.raises(OSError, match="No space left"):
                home.score(small / "run")
        there = home.parts(small / "run")
        assert 1 <= len(there) < ROWS // PART
        assert not list(small.rglob("*.tmp"))
        if mounted:
            subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
        home.score(small / "run")
        home.assert_whole(small / "run", home.here)
    finally:
        if mounted:
            subprocess.run(["umount", str(small)], check=True)


def test_the_clock_is_set_back_and_another_host_has_our_process_number(home: Home, run: Path, monkeypatch: Any) -> None:
    for part in (2, 5):
        home.parts(run)[part].unlink()
    elsewhere = run / "signals" / f".part-000002.parquet.elsewhere-0.{os.getpid()}.0123abcd.tmp"
    dead = run / "signals" / f".part-000002.parquet.elsewhere-0.{2**22 + 1}.0123abcd.tmp"
    for path in (elsewhere, dead):
        path.write_bytes(b"half")

    class Earlier(datetime):
        @classmethod
        def now(cls, zone: Any = None) -> datetime:
            return datetime(1970, 1, 1, tzinfo=timezone.utc)

    monkeypatch.setattr(record, "datetime", Earlier)
    for _ in range(2):
        home.score(run)
    mine = sorted(path.name for path in (run / "sessions").glob("19700101T000000Z-*"))
    assert [name.endswith(f"-{os.getpid()}.json") for name in mine] == [False, True] or len(mine) == 2
    assert elsewhere.exists(), "it may still be written, on that machine"
    assert dead.exists()
    for path in (elsewhere, dead):
        path.unlink()
    home.assert_whole(run, home.here)
    assert files.is_temporary(elsewhere.name)


def test_an_image_that_hangs_is_an_error_row(home: Home, tmp_path: Path, monkeypatch: Any) -> None:
    rows = llava_rows(6)
    write_pool(tmp_path, rows)
    pipe, slow = tmp_path / "images" / "2.png", tmp_path / "images" / "4.png"
    pipe.unlink()
    os.mkfifo(pipe)
    opened = feed.open_image

    def hanging(ref: Any, root: Path) -> Any:
        if str(ref).endswith(slow.name):
            with open(pipe, "rb") as nobody_writes:  # waits as a dead network file system does
                nobody_writes.read()
        return opened(ref, root)

    monkeypatch.setattr("vlmsift.pools.open_image", hanging)
    monkeypatch.setattr(patience, "LONGEST", 4)
    how = EngineSpec(part_size=PART, workers=1)
    run = vlmsift.score(tmp_path / "pool.json", home.model, tmp_path / "run", signals=["answer_loss"], engine=how)
    assert run.summary()["errors"] == {"missing image": 1, "took too long": 1}
    reasons = run.table(["id", "reason"]).to_pylist()
    assert "over 4 seconds to read and encode" in reasons[4]["reason"]
    assert reasons[2]["reason"].startswith("missing image: 'images/2.png' is not a file")
