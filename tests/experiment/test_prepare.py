"""What is told before anything is loaded: names, files, budgets, and images that the test set shares with the pool."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.experiment.bench import SMALL, write_plan
from vlmsift.errors import FormatError, UsageError
from vlmsift.experiment.plan import load_plan
from vlmsift.experiment.prepare import Chooser, prepare
from vlmsift.methods import METHODS
from vlmsift.selectors import Trajectories


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"methods": ["deltas"]}, "there is no method 'deltas'; choose among full, random, judge-cover"),
        ({"methods": [{"name": "a", "signals": ["delta"]}]}, "there is no signal 'delta'"),
        ({"methods": [{"name": "a", "signals": ["el2n"], "by": "x"}]}, "a: by='x' is not among its signals, el2n"),
        ({"methods": [{"name": "a", "signals": ["el2n"], "pick": "best"}]}, "pick='best' cannot be meant"),
        ({"methods": [{"name": "a", "signals": ["el2n"], "selector": "tops"}]}, "'tops'"),
        (
            {"methods": [{"name": "a", "signals": ["el2n"], "selector": "coincide"}]},
            "a: coincide chooses by 'concept_states', which is not among its signals, el2n",
        ),
        ({"methods": [{"name": "a", "config": "no.yaml"}]}, r"the config .*no\.yaml cannot be read"),
        ({"methods": [{"name": "a", "ids": "no.txt"}]}, r"a: ids: .*no\.txt cannot be read"),
        ({"pool": "no.json"}, r"pool: there is no file '.*no\.json'"),
        ({"recipe": "lava"}, "no recipe 'lava'; known are llava-1.5"),
        ({"recipe": {**SMALL, "epoch": 3}}, "a recipe has no 'epoch'"),
        ({"recipe": {**SMALL, "steps": 3}}, "recipe: steps=3 would hold for every subset"),
        ({"budgets": ["0%"]}, "budgets: keep='0%' is not a share above 0"),
        ({"budgets": ["1%"]}, "budgets: '1%' of 40 samples keeps none: the cell would be empty"),
        ({"budgets": ["50"]}, "budgets: keep='50' asks for 50 of the run's 40 rows"),
        ({"budgets": ["some"]}, "budgets: keep='some' is neither"),
        (
            {"augmentations": [{"name": "a", "variant": "topp"}]},
            "augmentations: a: there is no augmentation 'topp'",
        ),
        (
            {"augmentations": [{"name": "a", "variant": "top", "probability": 2}]},
            "a: masked_states: probability=2 cannot be meant",
        ),
        (
            {"augmentations": [{"name": "a", "variant": "top", "ranking_from": "x"}]},
            "a: masked_states: ranking_from='x' cannot be meant",
        ),
        ({"augmentations": [{"name": "a", "variant": "top", "rate": 1}]}, "augmentations: a: .*rate"),
        ({"augmentations": [{"name": "a", "variant": "top", "seed": 1}]}, "seed is the cell's own"),
    ],
)
def test_what_cannot_be_carried_out(tmp_path: Path, data: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises((UsageError, FormatError), match=says):
        prepare(load_plan(write_plan(tmp_path, data, **change)))


def test_ids_to_draw_from_are_the_pool_s_and_enough(tmp_path: Path, data: Path) -> None:
    ids = tmp_path / "ids"
    methods = [{"name": "oracle", "ids": str(ids)}]
    ids.write_text("nobody\n")
    with pytest.raises(UsageError, match="names 'nobody', which is no sample of"):
        prepare(load_plan(write_plan(tmp_path, data, methods=methods)))
    ids.write_text(json.dumps(json.loads((data / "pool" / "pool.json").read_text())[0]["id"].split()))
    with pytest.raises(UsageError, match="budget '20%' asks for 8 samples, but only 1 ids are named"):
        prepare(load_plan(write_plan(tmp_path, data, methods=methods)))
    assert prepare(load_plan(write_plan(tmp_path, data, methods=methods, budgets=["1"]))).choosers["oracle"].ids


def test_images_that_are_in_both_sets_are_named(tmp_path: Path, data: Path) -> None:
    test = tmp_path / "test"
    shutil.copytree(data / "test", test)
    theirs, ours = (
        [row["image"] for row in json.loads((folder / "pool.json").read_text())][:7] for folder in (test, data / "pool")
    )
    for mine, other in zip(theirs, ours, strict=True):
        shutil.copy(data / "pool" / other, test / mine)
    with pytest.raises(UsageError) as error:
        prepare(load_plan(write_plan(tmp_path, data, test=str(test / "pool.json"))))
    text = str(error.value)
    assert text.startswith("7 images of the test set")
    assert "and 2 more" in text
    assert text.count("(in the pool 'images/") == 5
    assert repr(min(theirs)) in text
    assert "Take their samples out of one of the two" in text


def test_images_inside_the_rows_are_compared_with_files(tmp_path: Path, data: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = json.loads((data / "pool" / "pool.json").read_text())[3]
    image = (data / "pool" / row["image"]).read_bytes()
    messages = [
        {"role": "user", "content": "<image>What is it?"},
        {"role": "assistant", "content": "A digit."},
    ]
    table = pa.Table.from_pylist([{"id": "inside", "images": [{"bytes": image, "path": None}], "messages": messages}])
    pq.write_table(table, tmp_path / "test.parquet")
    with pytest.raises(UsageError, match=r"1 images of the test set .*the image of 'inside' .in the pool 'images/"):
        prepare(load_plan(write_plan(tmp_path, data, test=str(tmp_path / "test.parquet"))))


def test_cells_are_crossed_and_the_full_pool_is_trained_once(tmp_path: Path, data: Path) -> None:
    plan = write_plan(
        tmp_path,
        data,
        methods=["full", "random", {"name": "oracle", "ids": str(data / "clean.txt"), "budgets": ["4"]}],
        budgets=["10%", "20%"],
        schedule=["epochs", "steps"],
        augmentations=["none", {"name": "meap", "variant": "meap"}],
    )
    names = [cell.name for cell in prepare(load_plan(plan)).cells]
    assert len(set(names)) == len(names) == 2 * 2 * (1 + 2 * 2 + 2)  # seeds x augmentations x (full + random + oracle)
    assert sum(name.startswith("full-100pct-epochs") for name in names) == 4
    assert "random-20pct-steps-meap-seed1" in names


def test_with_steps_of_its_own_number_the_full_pool_has_a_cell_too(tmp_path: Path, data: Path) -> None:
    plan = write_plan(tmp_path, data, methods=["full"], schedule=["epochs", "steps"], steps=7, seeds=[4])
    assert [cell.name for cell in prepare(load_plan(plan)).cells] == [
        "full-100pct-epochs-none-seed4",
        "full-100pct-steps-none-seed4",
    ]


def test_what_a_plan_lacks_is_said(tmp_path: Path, data: Path) -> None:
    warnings = prepare(load_plan(write_plan(tmp_path, data))).warnings
    assert warnings == ("2 seeds make no random band: give at least 5",)
    oracle = {"name": "oracle", "ids": str(data / "clean.txt")}
    warnings = prepare(load_plan(write_plan(tmp_path, data, methods=[oracle], seeds=5))).warnings
    assert len(warnings) == 2
    assert "no band" in warnings[0]
    assert "no relative performance" in warnings[1]


def test_a_method_of_the_table_is_its_recipe(tmp_path: Path, data: Path) -> None:
    own = {"name": "own", "signals": ["mine=answer_loss"], "selector": "trajectories:vector=mine", "snapshots": 4}
    plan = load_plan(write_plan(tmp_path, data, methods=["full", "random", "xmas", "bye", "ifd", own]))
    choosers = prepare(plan).choosers
    assert (choosers["full"].selector, choosers["random"].selector) == (None, None)
    assert choosers["ifd"] == Chooser(METHODS["ifd"].build_signals(), METHODS["ifd"].build_selector(), None)
    assert [choosers[name].snapshots for name in ("xmas", "bye", "own")] == [7, 1, 4]
    assert choosers["own"].selector == Trajectories("mine")
