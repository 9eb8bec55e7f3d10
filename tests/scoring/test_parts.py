"""Strides first, then what is missing; whoever dies or is slow, each part is done and few are done twice."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sample_runs import make_run, rows_of, settings
from vlmsift.errors import RunMismatch, UsageError
from vlmsift.runs import Run
from vlmsift.scoring.parts import Parts
from vlmsift.scoring.shards import Shard


class Listed:
    """A run of many parts as workers see it: which are there."""

    def __init__(self, count: int) -> None:
        self.parts, self.done = range(count), set[int]()
        self.finished_parts, self.has_part = lambda: set(self.done), lambda part: part in self.done

    def rows_of(self, part: int) -> range:
        return range(part * 3, part * 3 + 3)


def parts(run: Any, index: int, count: int) -> Parts:
    return Parts(run, Shard(index, count))


def test_a_stride_and_then_the_rest_in_an_order_of_its_own() -> None:
    orders = [list(parts(Listed(60), index, 3)) for index in range(3)]
    for index, order in enumerate(orders):
        assert sorted(order) == list(range(60))
        assert order[:20] == list(range(index, 60, 3))
    assert len({tuple(order[20:40]) for order in orders}) == 3


def test_it_looks_again_before_each_part() -> None:
    run = Listed(6)
    mine = parts(run, 0, 2)
    taking = iter(mine)
    assert next(taking) == 0
    run.done |= {2, 3}
    assert next(taking) == 4
    run.done |= {0, 4, 5}
    assert list(taking) == [1]
    assert mine.rows_done == 5 * 3


def test_who_is_alone_does_not_ask_for_each_part() -> None:
    run = Listed(3)
    run.has_part = None  # type: ignore[assignment]
    assert list(parts(run, 0, 1)) == [0, 1, 2]


@pytest.mark.parametrize("dies", [False, True])
def test_sixty_four_workers_of_which_some_are_slow_and_one_dies(dies: bool) -> None:
    """A part takes a step, on 3 workers five; seed 1. What is done twice is the end of the run only."""
    run, luck = Listed(2048), random.Random(1)
    taking = {index: iter(parts(run, index, 64)) for index in range(64)}
    slow, at_work, repeated, step = set(luck.sample(range(64), 3)), {}, 0, 0
    while taking:
        step += 1
        if dies and step == 10:
            del taking[7], at_work[7]
        for index in list(taking):
            part, left = at_work.get(index, (None, 0))
            if left == 0:
                if part is not None:
                    repeated += part in run.done
                    run.done.add(part)
                if (part := next(taking[index], None)) is None:
                    del taking[index]
                    continue
                left = 5 if index in slow else 1
            at_work[index] = part, left - 1
    assert run.done == set(range(2048))
    ideal = 2048 / (61 + 3 / 5 - dies)
    assert step < 1.4 * ideal
    assert repeated < 0.1 * 2048


def test_what_was_there_is_looked_at_and_read_whole(tmp_path: Path) -> None:
    values = np.arange(12, dtype=float)
    images = np.array([0] * 4 + [1] * 8, np.int32)
    run = make_run(tmp_path, {"loss": values}, 2, images=images)
    assert parts(run, 0, 1).look() == {False, True}
    broken = make_run(tmp_path / "b", {"loss": values}, 2, images=images, reason=["broken image: x"] * 12)
    assert parts(broken, 0, 1).look() == set()
    assert parts(Run.create_or_resume(tmp_path / "n", settings(4, {"loss": 1})), 0, 1).look() == set()
    part = run.folder / "signals" / "part-000003.parquet"
    part.write_bytes(part.read_bytes()[:100])
    parts(run, 0, 2).check()
    with pytest.raises(UsageError, match=r"part-000003\.parquet cannot be read"):
        parts(run, 1, 2).check()


def test_parts_of_another_identity_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", {"loss": np.zeros(4)}, 2)
    other = Run.create_or_resume(tmp_path / "b", settings(4, {"loss": 1}, 2, model="other"))
    other.write_part(0, rows_of({"loss": np.zeros(2)}))
    (run.folder / "signals/part-000000.parquet").write_bytes(other.home.read("signals/part-000000.parquet"))
    with pytest.raises(RunMismatch, match=r"part-000000\.parquet carries the identity of another run"):
        parts(run, 0, 1).look()
