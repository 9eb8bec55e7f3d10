"""Workers that die, meet, or run beside others: the run is finished, each row once, with the undisturbed numbers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import vlmsift
from tests.dying import kill_when
from tests.faults.conftest import PART, ROWS, SIGNALS, Home, codes
from vlmsift.errors import RunMismatch, UsageError, VlmsiftError
from vlmsift.runs import Run
from vlmsift.scoring import devices
from vlmsift.scoring.score import Progress
from vlmsift.specs import EngineSpec

KILLED = -signal.SIGKILL


def test_three_shards_started_together(home: Home, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert codes([home.start(out, f"--shard={place}/3") for place in range(3)]) == [0, 0, 0]
    home.assert_whole(out)
    told = [json.loads(path.read_text())["shard"] for path in out.glob("sessions/*")]
    assert sorted(told) == ["0/3", "1/3", "2/3"]


def test_two_on_one_folder_that_know_nothing_of_each_other(home: Home, tmp_path: Path) -> None:
    assert codes([home.start(tmp_path / "run") for _ in range(2)]) == [0, 0]
    home.assert_whole(tmp_path / "run")


@pytest.mark.faults
def test_twenty_on_one_folder(home: Home, tmp_path: Path) -> None:
    assert codes([home.start(tmp_path / "run", f"--shard={place}/20") for place in range(20)]) == [0] * 20
    home.assert_whole(tmp_path / "run")


def test_what_a_killed_worker_left_is_done_by_the_other(home: Home, tmp_path: Path) -> None:
    out = tmp_path / "run"
    killed = kill_when(home.command(out, "--shard=1/2"), lambda: len(home.parts(out)) >= 2, 0)
    assert killed == KILLED
    left = {int(path.stem[5:]) for path in home.parts(out)}
    assert 2 <= len(left) < ROWS // PART, "no kill came in time: give it a larger pool"
    assert min(left) == 1, "a worker begins with its own stride"
    assert all(part % 2 for part in left)
    assert codes([home.start(out, "--shard=0/2")]) == [0]
    home.assert_whole(out)


def test_a_process_for_each_device_and_one_is_killed(home: Home, tmp_path: Path, plain_path: Any) -> None:
    out, notes = tmp_path / "run", []
    killed: list[int] = []

    def kill_one(state: Progress) -> None:
        notes[:] = state.notes
        if not killed and len(home.parts(out)) >= 1:
            own = [one for one in psutil.Process().children() if "spawn_main" in " ".join(one.cmdline())]
            killed.append(own[-1].pid)
            os.kill(killed[0], signal.SIGKILL)

    how = EngineSpec(part_size=PART, workers=0, devices="cpu,cpu")
    states: list[int] = []

    def progress(state: Progress) -> None:
        states.append(state.done)
        kill_one(state)

    vlmsift.score(home.pool, vlmsift.ModelSpec(home.model), out, signals=SIGNALS, engine=how, progress=progress)
    assert notes == ["cpu: its process ended with code -9; it is started again (1 of 3)"]
    assert states == sorted(states)
    assert states[-1] == ROWS
    home.assert_whole(out)
    assert not [one for one in psutil.Process().children() if one.pid != killed[0] and "score on" in one.name()]


class Dying(devices._Worker):
    """A worker whose every start dies at once."""

    def start(self) -> None:
        self.starts += 1
        self.pipe, far = devices._SPAWN.Pipe(duplex=False)
        self.process = devices._SPAWN.Process(target=time.sleep, args=("not a number",))
        self.process.start()
        far.close()


def test_a_device_that_dies_again_and_again_is_given_up(home: Home, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(devices, "RESTARTS", 1)
    monkeypatch.setattr(devices, "_Worker", Dying)
    with pytest.raises(
        VlmsiftError, match=r"no device is left \(cpu: its process ended with code 1\)\. Start the same"
    ):
        home.score(tmp_path / "run", devices="cpu")


def test_what_no_other_start_can_mend_is_told_at_once(home: Home, tmp_path: Path) -> None:
    shutil.copytree(home.whole.folder, tmp_path / "run")
    how = EngineSpec(part_size=PART, workers=0, devices="cpu")
    with pytest.raises(RunMismatch, match="random"):
        vlmsift.score(home.pool, vlmsift.ModelSpec(home.model), tmp_path / "run", signals=["random"], engine=how)


def test_overwrite_is_refused_where_others_measure_too(home: Home, tmp_path: Path, monkeypatch: Any) -> None:
    model, out = vlmsift.ModelSpec(home.model), home.folder / "whole"
    for engine, told in (
        (EngineSpec(shard="1/2"), "overwrite with shard 1/2: one worker would throw away"),
        (EngineSpec(engine="ray"), "overwrite with Ray actors: "),
    ):
        with pytest.raises(UsageError, match=told):
            vlmsift.score(home.pool, model, out, engine=engine, overwrite=True)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UsageError, match=r"shard 3/4 \(by RANK and WORLD_SIZE\).*say --shard 0/1"):
        vlmsift.score(home.pool, model, out, overwrite=True)


@pytest.mark.faults
def test_the_parent_of_devices_is_killed(home: Home, tmp_path: Path, plain_path: list[str]) -> None:
    out = tmp_path / "run"
    parent = home.start(out, "--devices=cpu,cpu")
    while parent.is_alive() and len(home.parts(out)) < 2:
        time.sleep(0.01)
    children = psutil.Process(parent.pid).children(recursive=True)
    os.kill(parent.pid, signal.SIGKILL)
    gone, alive = psutil.wait_procs([one for one in children if "spawn_main" in " ".join(one.cmdline())], timeout=60)
    assert gone
    assert not alive, "a process that nobody listens to ends"
    assert codes([home.start(out)]) == [0]
    home.assert_whole(out)
    assert Run.open(out).summary()["missing"] == 0
