"""Cells: run once, whole or absent, one's fault does not cost another, and shards add up to the whole."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from tests.experiment.bench import SMALL, StandIn, write_plan
from vlmsift.errors import UsageError
from vlmsift.experiment import validate

CELLS = ["full-100pct-epochs-none-seed0", "full-100pct-epochs-none-seed1", "random-20pct-epochs-none-seed0"]


def files(folder: Path) -> list[str]:
    """Names of all files of cells, without their digests."""
    return sorted(path.name.rsplit("-", 1)[0] for path in (folder / "out" / "cells").iterdir())


def test_each_cell_is_trained_once_judged_and_written_down(tmp_path: Path, data: Path, stand_in: StandIn) -> None:
    found = validate(write_plan(tmp_path, data, seeds=[3]))
    assert (found.errors, found.pending) == ({}, [])
    assert [len(call.ids) for call in stand_in.trained] == [40, 8]
    assert [(result.key.method, result.seed, result.scores["a"]) for result in found.results] == [
        ("full", 3, 1.0),
        ("random", 3, 0.2),
    ]
    record = json.loads(next((tmp_path / "out" / "cells").glob("random-*.json")).read_text())
    assert record["cell"] == {
        "method": "random",
        "budget": "20%",
        "keep": 8,
        "schedule": "epochs",
        "augmentation": "none",
        "seed": 3,
    }
    assert (record["samples"], record["steps"], record["training_seconds"], record["scoring_seconds"]) == (8, 1, 0.8, 0)
    assert record["tasks"]["b"] == {"samples": 10, "accuracy": 0.1, "loss": 2.0, "errors": 0}
    assert record["identity"]["recipe"]["batch_size"] == 8
    assert record["identity"]["seed"] == 3
    assert len(record["identity"]["ids"]) == 64
    assert list((tmp_path / "out" / "work").iterdir()) == []  # the weights are thrown away
    assert not (tmp_path / "out" / "models").exists()


def test_weights_are_kept_where_asked_for(tmp_path: Path, data: Path, stand_in: StandIn) -> None:
    validate(write_plan(tmp_path, data, seeds=[3], methods=["full"], keep_models=True))
    assert [path.name for path in (tmp_path / "out" / "models").glob("*/*")] == ["weights"]


def test_a_random_draw_is_new_for_each_seed_and_in_the_pool_s_order(
    tmp_path: Path, data: Path, stand_in: StandIn
) -> None:
    validate(write_plan(tmp_path, data, methods=["random"], budgets=["20%", "50%"]))
    first, second, *_ = (call.ids for call in stand_in.trained)
    order = [row["id"] for row in json.loads((data / "pool" / "pool.json").read_text())]
    assert set(first) != set(second)
    assert list(first) == [name for name in order if name in set(first)]


def test_a_method_chooses_once_or_anew_with_each_seed(tmp_path: Path, data: Path, stand_in: StandIn) -> None:
    method = {"name": "drawn", "signals": ["answer_tokens"], "selector": "random"}
    validate(write_plan(tmp_path, data, methods=[method]))
    first, second = (set(call.ids) for call in stand_in.trained)
    assert first == second
    stand_in.trained.clear()
    validate(write_plan(tmp_path, data, methods=[method], redraw=True))
    assert [len(call.ids) for call in stand_in.trained] == [8], "seed 0 is there already"
    assert set(stand_in.trained[0].ids) != first


def test_an_oracle_draws_among_its_ids_alone(tmp_path: Path, data: Path, stand_in: StandIn) -> None:
    ids = data / "clean.txt"
    validate(write_plan(tmp_path, data, methods=[{"name": "oracle", "ids": str(ids)}]))
    first, second = (set(call.ids) for call in stand_in.trained)
    assert first != second
    assert first | second <= set(ids.read_text().split())


def test_equal_steps_are_those_of_the_full_pool_or_as_stated(tmp_path: Path, data: Path, stand_in: StandIn) -> None:
    recipe = {**SMALL, "epochs": 2}
    validate(write_plan(tmp_path, data, seeds=[0], schedule=["epochs", "steps"], recipe=recipe))
    assert [call.recipe.steps for call in stand_in.trained] == [None, None, 10]  # full, random, random
    stand_in.trained.clear()
    found = validate(write_plan(tmp_path, data, seeds=[0], schedule=["epochs", "steps"], recipe=recipe, steps=4))
    assert [call.recipe.steps for call in stand_in.trained] == [4, 4]  # the two of equal epochs are there already
    assert [row["method"] for row in found.rows if row["schedule"] == "steps"] == ["full", "random"]


def test_an_augmentation_reaches_the_training(tmp_path: Path, data: Path, stand_in: StandIn) -> None:
    augmentations = ["none", {"name": "tops", "variant": "top", "probability": 0.5}]
    validate(write_plan(tmp_path, data, methods=["full"], seeds=[5], augmentations=augmentations))
    none, tops = (call.context for call in stand_in.trained)
    assert none is None
    assert tops.func.__name__ == "masked_states"
    assert tops.keywords == {"variant": "top", "probability": 0.5, "seed": 5}


def test_finished_cells_are_not_run_again_and_a_changed_plan_runs_what_is_new(
    tmp_path: Path, data: Path, stand_in: StandIn
) -> None:
    plan = write_plan(tmp_path, data)
    first = validate(plan)
    again = validate(plan)
    assert len(stand_in.trained) == 4
    assert again.rows == first.rows
    validate(write_plan(tmp_path, data, seeds=3))
    assert [call.seed for call in stand_in.trained[4:]] == [2, 2]
    validate(write_plan(tmp_path, data, recipe={**SMALL, "learning_rate": 1e-5}))
    assert len(stand_in.trained) == 6 + 4
    validate(write_plan(tmp_path, data))  # the old cells are still there
    assert len(stand_in.trained) == 6 + 4
    for damaged in (tmp_path / "out" / "cells").glob("full-*-seed0-*.json"):
        damaged.write_text(damaged.read_text()[:50])
    validate(plan)
    assert len(stand_in.trained) == 6 + 4 + 1


def test_another_test_set_or_pool_makes_other_cells(tmp_path: Path, data: Path, stand_in: StandIn) -> None:
    validate(write_plan(tmp_path, data, methods=["full"], seeds=[0]))
    for name in ("pool", "test"):
        changed = tmp_path / name
        shutil.copytree(data / name, changed)
        rows = json.loads((changed / "pool.json").read_text())
        rows[0]["conversations"][1]["value"] += " or so"
        (changed / "pool.json").write_text(json.dumps(rows))
        where = {name: str(changed / "pool.json")}
        validate(write_plan(tmp_path, data, methods=["full"], seeds=[0], **where))
    assert len(stand_in.trained) == 3


def test_a_killed_comparison_keeps_its_cells_and_leaves_no_half_one(
    tmp_path: Path, data: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(number: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    plan, stand_in.before = write_plan(tmp_path, data), kill
    with pytest.raises(KeyboardInterrupt):
        validate(plan)
    assert files(tmp_path) == CELLS[:2]
    stand_in.before = lambda number: None
    replace = os.replace

    def killed(source: str, target: str) -> None:
        if "cells" in str(target):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        validate(plan)
    assert files(tmp_path) == CELLS[:2]
    monkeypatch.undo()
    again = StandIn(monkeypatch)
    shutil.rmtree(tmp_path / "out" / "work")  # the stand-in cannot resume
    assert validate(plan).pending == []
    assert [call.seed for call in again.trained] == [0, 1]


def test_a_failed_cell_is_told_and_tried_again_and_the_others_go_on(
    tmp_path: Path, data: Path, stand_in: StandIn
) -> None:
    def fail(number: int) -> None:
        if number == 2 and len(stand_in.trained) == 2 and not (tmp_path / "failed").exists():
            (tmp_path / "failed").touch()
            raise ZeroDivisionError("no luck")

    plan, stand_in.before = write_plan(tmp_path, data), fail
    found = validate(plan)
    assert found.errors == {CELLS[2]: "ZeroDivisionError: no luck"}
    row = next(row for row in found.rows if row["method"] == "random")
    assert (row["seeds"], row["failed"], row["diverged"]) == (1, 1, 0)
    assert any("no luck" in note for note in found.notes)
    assert "1 (1 failed)" in found.markdown.read_text()  # type: ignore[union-attr]
    found = validate(plan)
    assert found.errors == {}
    assert len(stand_in.trained) == 4
    assert not list((tmp_path / "out" / "cells").glob("*.error.json"))


def test_a_diverged_cell_is_told_and_is_in_no_mean(tmp_path: Path, data: Path, stand_in: StandIn) -> None:
    stand_in.diverges = lambda call: call.seed == 1 and len(call.ids) == 8
    stand_in.accuracy = lambda call: 0.0 if stand_in.diverges(call) else 0.5
    found = validate(write_plan(tmp_path, data, seeds=3))
    row = next(row for row in found.rows if row["method"] == "random")
    assert (row["seeds"], row["diverged"], row["accuracy"]) == (2, 1, pytest.approx(0.375))
    assert any(note.startswith("diverged, in no mean: epochs 20% random none seed 1") for note in found.notes)
    assert json.loads(next((tmp_path / "out" / "cells").glob("random-*-seed1-*")).read_text())["loss"] is None


def test_shards_together_are_the_whole(tmp_path: Path, data: Path, stand_in: StandIn) -> None:
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    for folder in (whole, shared):
        folder.mkdir()
    expected = validate(write_plan(whole, data, seeds=3))
    stand_in.trained.clear()
    plan = write_plan(shared, data, seeds=3)
    first = validate(plan, shard=(0, 2))
    assert (len(stand_in.trained), len(first.pending), first.table) == (3, 3, None)
    assert not (shared / "out" / "table.md").exists()
    validate(plan, shard=(1, 2))
    assert len({call.name for call in stand_in.trained}) == 6
    found = validate(plan)
    assert len(stand_in.trained) == 6

    def timeless(rows: list[dict[str, object]]) -> list[dict[str, object]]:  # choosing is clocked
        return [{k: v for k, v in row.items() if k not in ("selection_seconds", "cost_ratio")} for row in rows]

    assert timeless(found.rows) == timeless(expected.rows)
    assert files(shared) == files(whole)


@pytest.mark.parametrize("shard", [(2, 2), (-1, 2), (0, 0)])
def test_a_shard_that_cannot_be_meant(tmp_path: Path, data: Path, shard: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="cannot be meant; give"):
        validate(write_plan(tmp_path, data), shard=shard)


def test_an_output_folder_that_is_a_file(tmp_path: Path, data: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(UsageError, match=r"out is a file, and a folder is to be written\. Name another one"):
        validate(write_plan(tmp_path, data))


def test_the_callback_is_told_of_every_cell(tmp_path: Path, data: Path, stand_in: StandIn) -> None:
    states: list[tuple[int, int, str]] = []
    plan = yaml.safe_load(write_plan(tmp_path, data, seeds=[0]).read_text())
    assert plan["seeds"] == [0]
    validate(tmp_path / "plan.yaml", progress=lambda state: states.append((state.done, state.total, state.doing)))
    assert states[-3:] == [(0, 2, CELLS[0]), (1, 2, CELLS[2]), (2, 2, "done")]
