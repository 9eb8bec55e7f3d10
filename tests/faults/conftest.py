"""A tiny pool, the run that nothing happened to, and how each fault's run is held against it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vlmsift
from tests.dying import run_to_death, start
from tests.sample_pools import llava_rows, write_pool
from vlmsift.files import is_temporary
from vlmsift.runs import Run
from vlmsift.specs import EngineSpec

ROWS, PART = 48, 2
SIGNALS = ["delta_attnmask", "answer_loss"]


@dataclass(frozen=True)
class Home:
    """Where it happens."""

    folder: Path
    model: Path

    @property
    def pool(self) -> Path:
        return self.folder / "pool.json"

    def command(self, out: Path | str, *more: str) -> list[str]:
        """The command line that scores into `out`."""
        fixed = [f"--model={self.model}", f"--part-size={PART}", "--workers=0", "--device=cpu"]
        return ["score", str(self.pool), f"--out={out}", *fixed, *(f"--signal={word}" for word in SIGNALS), *more]

    def score(self, out: Path | str, progress: Any = None, **engine: Any) -> Run:
        """The same from Python, in this process."""
        how = EngineSpec(part_size=PART, workers=0, **engine)
        model = vlmsift.ModelSpec(self.model, device="cpu")
        return vlmsift.score(self.pool, model, out, signals=SIGNALS, engine=how, progress=progress)

    @property
    def whole(self) -> Run:
        """The run that nothing happened to."""
        return Run.open(self.folder / "whole")

    @property
    def here(self) -> Run:
        """The same made in this process, where images are scaled by another library (see `tests.conftest`)."""
        return Run.open(self.folder / "here") if (self.folder / "here").exists() else self.score(self.folder / "here")

    def assert_whole(self, out: Path | str, whole: Run | None = None) -> None:
        """Each row is there once, with the numbers of the undisturbed run, and nothing half lies about."""
        run, whole = Run.open(out), whole or self.whole
        assert run.table(["index"])["index"].to_pylist() == list(range(ROWS))
        assert run.signals_hash() == whole.signals_hash()
        assert run.summary() == whole.summary()
        assert not [name for name in run.home.list() if is_temporary(name.rpartition("/")[2])]

    def parts(self, out: Path) -> list[Path]:
        """Files of the finished parts."""
        return sorted(out.glob("signals/part-*.parquet"))

    def start(self, out: Path | str, *more: str) -> Any:
        """The command in a process of its own."""
        return start(self.command(out, *more), 0)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, toy_path: Callable[[str], Path]) -> Home:
    folder = tmp_path_factory.mktemp("faults")
    rows = llava_rows(ROWS, text_only=(14, 31))
    rows[7]["image"] = "nowhere/7.png"
    write_pool(folder, rows)
    made = Home(folder, toy_path("llava"))
    assert run_to_death(made.command(folder / "whole"), 0) == 0
    return made


@pytest.fixture
def plain_path(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """`sys.path` as processes of their own can use it: without the torchvision that only this one has repaired."""
    monkeypatch.setattr(sys, "path", [place for place in sys.path if not place.endswith(".test-packages")])
    return sys.path


def codes(processes: Sequence[Any]) -> list[int]:
    """How they ended."""
    for one in processes:
        one.join()
    return [int(one.exitcode) for one in processes]


def seeded(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)
