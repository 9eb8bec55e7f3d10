"""Ray: the same numbers whatever the number of actors, and whoever of its processes is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import vlmsift
from tests.faults.conftest import PART, ROWS, SIGNALS, Home, codes
from vlmsift.errors import MissingExtra, UsageError
from vlmsift.scoring import ray_actors
from vlmsift.specs import EngineSpec


def test_without_ray_the_extra_is_named(home: Home, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r'pip install "vlmsift\[ray\]"'):
        home.score(tmp_path / "run", engine="ray")


ray = pytest.importorskip("ray", reason="Ray is not installed; the extra ray brings it")


def test_a_python_that_ray_cannot_start_is_told(home: Home, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "executable", "/my folder/bin/python")
    with pytest.raises(UsageError, match=r"whose path holds a blank: /my folder/bin/python\. Move the environment"):
        home.score(tmp_path / "run", engine="ray")


if any(map(str.isspace, sys.executable)):
    pytest.skip("Ray starts no workers by a Python whose path holds a blank", allow_module_level=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: Any) -> None:
    monkeypatch.setattr(ray_actors, "LOOK_EVERY", 0.2)


@pytest.fixture
def local(request: Any, plain_path: list[str]) -> Iterator[None]:
    """Ray on this machine, as somebody has started it before, with a processor for each actor."""
    count = request.node.callspec.params["actors"] if hasattr(request.node, "callspec") else 2
    variables = {"PYTHONPATH": os.pathsep.join(filter(None, plain_path)), "OMP_NUM_THREADS": "1"}
    how: dict[str, Any] = {"include_dashboard": False, "logging_level": "ERROR", "log_to_driver": False}
    ray.init(num_cpus=count, runtime_env={"env_vars": variables}, **how)
    yield
    ray.shutdown()


def score(home: Home, out: Path, actors: int) -> Any:
    how = EngineSpec(part_size=PART, workers=0, engine="ray", actors=actors)
    return vlmsift.score(home.pool, vlmsift.ModelSpec(home.model, device="cpu"), out, signals=SIGNALS, engine=how)


def kill_once(ready: Callable[[], bool], victim: Callable[[], psutil.Process | None]) -> tuple[Any, list[int]]:
    """A thread that kills a process with -9 when it is time, and whom it has killed."""
    killed: list[int] = []

    def watch() -> None:
        while not killed:
            if ready() and (found := victim()) is not None:
                os.kill(found.pid, signal.SIGKILL)
                killed.append(found.pid)
            time.sleep(0.01)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread, killed


def worker() -> psutil.Process | None:
    """An actor's process that is at work."""
    found = [one for one in psutil.process_iter(["name", "cmdline", "uids"]) if _title(one).startswith("ray::Worker")]
    own = {one.pid for one in psutil.Process().children(recursive=True)}
    return next((one for one in found if one.pid in own), None)


def _title(process: psutil.Process) -> str:
    return " ".join(process.info["cmdline"] or [process.info["name"] or ""])


def test_a_killed_actor_is_started_again(home: Home, tmp_path: Path, local: None) -> None:
    out = tmp_path / "run"
    _, killed = kill_once(lambda: len(home.parts(out)) >= 1, worker)
    score(home, out, 2)
    assert killed, "no kill came in time: give it a larger pool"
    home.assert_whole(out)


@pytest.mark.faults
@pytest.mark.parametrize("actors", [1, 2, 4])
def test_the_numbers_do_not_depend_on_the_actors(actors: int, home: Home, tmp_path: Path, local: None) -> None:
    score(home, tmp_path / "run", actors)
    home.assert_whole(tmp_path / "run")


def test_a_cluster_that_does_not_answer_is_told(home: Home, tmp_path: Path, monkeypatch: Any) -> None:
    """Ray itself takes minutes to say so."""

    def refuse(address: str, **how: Any) -> None:
        raise ConnectionError("nobody is there")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(UsageError, match=r"no Ray cluster answers at '127\.0\.0\.1:1' \(nobody is there\)"):
        home.score(tmp_path / "run", engine="ray", address="127.0.0.1:1")


@pytest.mark.faults
def test_the_driver_is_killed(home: Home, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = home.command(out, "--engine=ray", "--actors=2")
    driver = subprocess.Popen([sys.executable, "-m", "vlmsift", *command], stderr=subprocess.DEVNULL)
    while driver.poll() is None and not home.parts(out):
        time.sleep(0.05)
    started = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    driver.wait()
    psutil.wait_procs(started, timeout=60)
    assert 1 <= len(home.parts(out)) <= ROWS // PART
    assert codes([home.start(out)]) == [0]
    home.assert_whole(out)


@pytest.fixture
def cluster(plain_path: list[str]) -> Iterator[Any]:
    """Two nodes, each with one processor for an actor."""
    from ray.cluster_utils import Cluster

    variables = {"PYTHONPATH": os.pathsep.join(filter(None, plain_path)), "OMP_NUM_THREADS": "1"}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.second = made.add_node(num_cpus=1)
    how: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    ray.init(made.address, runtime_env={"env_vars": variables}, **how)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.mark.faults
@pytest.mark.parametrize("way", ["raylet", "node"])
def test_a_node_is_lost_for_good(way: str, home: Home, tmp_path: Path, cluster: Any) -> None:
    out, lost = tmp_path / "run", []

    def lose() -> None:
        while len(home.parts(out)) < 2:
            time.sleep(0.01)
        if way == "raylet":
            cluster.second.kill_raylet()
        else:
            cluster.remove_node(cluster.second, allow_graceful=False)
        lost.append(len(home.parts(out)))

    threading.Thread(target=lose, daemon=True).start()
    score(home, out, 2)
    assert lost
    assert lost[0] < ROWS // PART, "the loss came too late: give it a larger pool"
    home.assert_whole(out)
