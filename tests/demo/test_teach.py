"""The last act on a small pool: the same start for all, as many epochs, judged on what nobody has seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlmsift.demo import START_PATH
from vlmsift.demo.pool import make_pool, read_truth
from vlmsift.demo.teach import Lesson, teach
from vlmsift.evaluate import TaskResult
from vlmsift.models import open_model


@pytest.fixture(scope="module")
def lessons(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Lesson]]:
    folder = tmp_path_factory.mktemp("teach")
    pool = make_pool(folder / "pool", size=200, seed=1)
    clean = [name for name, row in read_truth(pool.parent).items() if row["kind"] == "clean"]
    return folder, teach(folder, pool, {"clean": clean[:64], "full": None}, epochs=1, tests=60)


def test_each_part_sees_its_samples_once(lessons: tuple[Path, dict[str, Lesson]]) -> None:
    found = lessons[1]
    assert list(found) == ["untrained", "clean", "full"]
    assert [(one.samples, one.steps) for one in found.values()] == [(0, 0), (64, 2), (200, 7)]
    assert sum(task.samples for task in found["full"].tasks.values()) == 60


def test_training_changes_what_the_start_answers(lessons: tuple[Path, dict[str, Lesson]]) -> None:
    losses = [sum(task.loss for task in one.tasks.values()) for one in lessons[1].values()]
    assert len(set(losses)) == 3
    assert all(0 <= one.accuracy <= 1 for one in lessons[1].values())


def test_nothing_but_the_test_set_is_left(lessons: tuple[Path, dict[str, Lesson]]) -> None:
    assert {path.name for path in lessons[0].iterdir()} == {"pool", "test"}


def test_the_accuracy_is_the_mean_over_tasks() -> None:
    tasks = {"a": TaskResult(10, 0.5, 1.0, 0), "b": TaskResult(30, 1.0, 1.0, 0)}
    assert Lesson(1, 1, 1.0, tasks).accuracy == 0.75


def test_the_start_is_shipped_and_opens() -> None:
    assert open_model(START_PATH).depth == 5
    assert "--vision-from" in (START_PATH / "README.md").read_text()
