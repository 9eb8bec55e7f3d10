"""`kill -9` at every step of writing and at random instants: the same command goes on, and nothing is lost or half."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.dying import kill_when, run_to_death
from tests.sample_pools import llava_rows, write_pool
from vlmsift.runs.record import SESSION
from vlmsift.runs.run import Run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL and no fork server")

KILLED = -signal.SIGKILL
SEED = 20
ROWS, PART = 60, 3
SIGNALS = ["--signal=delta_attnmask", "--signal=answer_loss", "--signal=hidden_mean:dimensions=8"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool of 60 rows, of which a few are bad, and a pool of its first 6."""
    folder = tmp_path_factory.mktemp("kill")
    rows = llava_rows(ROWS, text_only=(14, 31))
    rows[7]["image"], rows[40]["image"] = "nowhere/7.png", "nowhere/40.png"
    write_pool(folder, rows)
    write_pool(folder, rows[:6], "small.json")
    return folder


@pytest.fixture(scope="module")
def score(home: Path, toy_path: Callable[[str], Path]) -> Callable[..., list[str]]:
    """`score(out, pool)` -> the command, always the same but for the folder."""

    def command(out: Path, pool: str = "pool.json") -> list[str]:
        fixed = [
            f"--model={toy_path('llava')}",
            f"--part-size={PART}",
            "--tokens-per-batch=150",
            "--workers=1",
            *SIGNALS,
        ]
        return ["score", str(home / pool), f"--out={out}", *fixed]

    return command


@pytest.fixture(scope="module")
def whole(score: Callable[..., list[str]], home: Path) -> Run:
    """The run that nobody killed."""
    assert run_to_death(score(home / "whole"), 0) == 0
    return Run.open(home / "whole")


@pytest.fixture(scope="module")
def small(score: Callable[..., list[str]], home: Path) -> Run:
    assert run_to_death(score(home / "whole small", "small.json"), 0) == 0
    return Run.open(home / "whole small")


def assert_same(folder: Path, whole: Run) -> None:
    """The finished run is bit-equal, row for row, and nothing else lies in its folder."""
    run = Run.open(folder)
    assert run.summary() == whole.summary()
    assert run.table().equals(whole.table())
    assert run.signals_hash() == whole.signals_hash()
    files = [{str(path.relative_to(one)) for path in one.rglob("*")} for one in (folder, whole.folder)]
    assert all(SESSION.fullmatch(name) for name in files[0] ^ files[1])


def test_killed_at_random_instants(score: Callable[..., list[str]], whole: Run, tmp_path: Path) -> None:
    run = tmp_path / "run"
    instants = random.Random(SEED)
    parts = ROWS // PART
    codes = []
    for least in (0, 1, parts // 4, parts // 2, parts - 4):

        def ready(least: int = least) -> bool:
            return (run / "run.json").exists() and len(list(run.glob("signals/part-*.parquet"))) >= least

        codes.append(kill_when(score(run), ready, instants.uniform(0, 0.06)))
        if (run / "run.json").exists():
            json.loads((run / "run.json").read_text())
        for part in run.glob("signals/part-*.parquet"):
            assert part.read_bytes() == (whole.folder / "signals" / part.name).read_bytes()
    assert KILLED in codes, "no kill came in time: give it a larger pool"
    assert run_to_death(score(run), 0) == 0
    assert_same(run, whole)


# run.json, the session, the proof in it, and each of two parts take three steps: file to disk, its name, folder to disk
@pytest.mark.parametrize("step", range(1, 16))
def test_killed_at_each_step_of_writing(step: int, score: Callable[..., list[str]], small: Run, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert run_to_death(score(run, "small.json"), step) == KILLED
    finished = sorted(run.glob("signals/part-*.parquet"))
    assert len(finished) == max(0, (step - 9) // 3)
    assert run_to_death(score(run, "small.json"), 0) == 0
    assert_same(run, small)


def test_an_unharmed_run_takes_no_more_steps(score: Callable[..., list[str]], tmp_path: Path) -> None:
    assert run_to_death(score(tmp_path / "run", "small.json"), 16) == 0


@pytest.fixture
def run(small: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small.folder, tmp_path / "run"))


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_selection_is_the_old_one_or_the_new(step: int, run: Path) -> None:
    file = run / "selections" / "selection.parquet"

    def select(keep: int) -> list[str]:
        return ["select", str(run), f"--keep={keep}", "--selector=top:balance=none"]

    assert run_to_death(select(2), 0) == 0
    old = file.read_bytes()
    assert run_to_death(select(4), step) == KILLED
    killed = file.read_bytes()
    assert run_to_death(select(4), 0) == 0
    assert killed == (file.read_bytes() if step == 3 else old)


@pytest.mark.parametrize(("step", "code"), [(1, KILLED), (2, KILLED), (3, KILLED), (4, 0)])
def test_an_exported_file_is_the_old_one_or_the_new(step: int, code: int, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "kept.json"
    out.parent.mkdir()
    out.write_text(old := '[{"id": "old"}]')
    assert run_to_death(["select", str(run), "--keep=4", "--selector=top:balance=none"], 0) == 0
    export = ["export", str(run), f"--out={out}"]
    assert run_to_death(export, step) == code
    assert (out.read_text() == old) == (step < 3)
    assert run_to_death(export, 0) == 0
    assert len(json.loads(out.read_text())) == 4
    assert [path.name for path in out.parent.iterdir()] == ["kept.json"]
