"""Plans that cannot be meant are refused, each with a sentence that quotes the value and names the cure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.experiment.bench import write_plan
from vlmsift.errors import UsageError
from vlmsift.experiment.plan import load_plan, make_plan
from vlmsift.specs import ModelSpec

WHOLE: dict[str, Any] = {"pool": "p", "test": "t", "model": "m", "methods": ["full"], "budgets": ["5%"], "out": "o"}


def test_short_forms_stand_for_long_ones() -> None:
    plan = make_plan({**WHOLE, "seeds": 3, "budgets": 50, "schedule": "steps", "recipe": "llava-1.5-lora"})
    assert plan.pool is not None
    assert (plan.pool.data, plan.seeds, plan.budgets, plan.schedule) == ("p", (0, 1, 2), (50,), ("steps",))
    assert plan.recipe == "llava-1.5-lora"
    assert [one.name for one in plan.augmentations] == ["none"]
    assert plan.augmentations[0].words == {}


def test_an_augmentation_s_words_are_all_but_its_name() -> None:
    plan = make_plan({**WHOLE, "augmentations": ["none", {"name": "half", "variant": "top", "probability": 0.5}]})
    assert plan.augmentations[1].words == {"variant": "top", "probability": 0.5}


def test_paths_are_relative_to_the_plan_and_a_hub_name_stays(tmp_path: Path) -> None:
    (tmp_path / "start").mkdir()
    path = tmp_path / "plan.yaml"
    path.write_text(
        "{pool: {data: a.json, images: i}, test: b.json, model: {model: start, device: cpu, dtype: float32},"
        " scorer: hub/model, out: o, budgets: 5%, methods: [{name: oracle, ids: c.txt}],"
        " imported: [{files: r.json, method: full}]}"
    )
    plan = load_plan(path)
    assert plan.pool is not None
    assert (plan.pool.data, plan.pool.images) == (str(tmp_path / "a.json"), str(tmp_path / "i"))
    assert plan.model == ModelSpec(str(tmp_path / "start"), device="cpu", dtype="float32")
    assert (plan.scorer, plan.out) == (ModelSpec("hub/model"), str(tmp_path / "o"))
    assert plan.methods[0].ids == str(tmp_path / "c.txt")
    assert plan.imported[0].files == (str(tmp_path / "r.json"),)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"budget": "5%"}, " has no 'budget'; it has out, pool, .*budgets"),
        ({"pool": {"data": "p", "image": "i"}}, ": pool has no 'image'; it has data, images"),
        ({"pool": {"images": "i"}}, ": pool: 'data' is missing; add it"),
        ({"out": None}, ": 'out' is missing; add it"),
        ({"methods": [{"name": "a", "signal": ["x"]}]}, ": methods.0 has no 'signal'; it has name, sig"),
        ({"methods": ["a b"]}, ": methods.0: name='a b' cannot be meant; give letters, digits"),
        (
            {"methods": [{"name": "a", "signals": ["x"], "ids": "f"}]},
            ": methods.0: a has signals and ids: give one of them",
        ),
        ({"methods": [{"name": "full", "ids": "f"}]}, "'full' is built in: choose another name"),
        ({"methods": [{"name": "a", "ids": "f", "pick": "lowest"}]}, "a has pick without signals or config"),
        ({"methods": [{"name": "a", "selector": "random"}]}, "a has selector without signals or config"),
        (
            {"methods": [{"name": "a", "signals": ["el2n"], "selector": "top", "by": "el2n"}]},
            "a has selector and by: write by into the selector's word",
        ),
        ({"methods": [{"name": "a", "signals": ["el2n"], "snapshots": 0}]}, ": methods.0: snapshots=0 cannot be meant"),
        ({"methods": [{"name": "full", "budgets": ["5%"]}]}, "full has no budget"),
        ({"methods": ["full", "full"]}, "methods names 'full' twice"),
        ({"methods": []}, "there is nothing to compare: give methods"),
        ({"test": None}, "methods need the key 'test'"),
        ({"methods": ["random"], "budgets": []}, "methods need the key 'budgets'"),
        ({"seeds": 0}, r": seeds=0 cannot be meant; give a whole number at least 1"),
        ({"seeds": []}, r": seeds=\(\) cannot be meant; give a list of .* of at least 1"),
        ({"pool": {"data": 3}}, ": pool: data=3 cannot be meant; give text"),
        ({"recipe": 3}, ": recipe=3 cannot be meant; give text or keys and values"),
        ({"seeds": [1, -1]}, ": seeds.1=-1 cannot be meant; give a whole number at least 0"),
        ({"seeds": [1, 1]}, "seeds names 1 twice"),
        ({"schedule": "samples"}, ": schedule.0='samples' cannot be meant; give one of epochs, steps"),
        ({"steps": 10}, "steps: 10 is unused: give schedule"),
        ({"steps": 0, "schedule": "steps"}, ": steps=0 cannot be meant"),
        ({"augmentations": [{"name": "a", "probability": 0.5}]}, "a has probability but no variant"),
        ({"augmentations": ["top"]}, "top: 'none' is the name of no augmentation; give any other a variant"),
        ({"augmentations": [{"name": "none", "variant": "top"}]}, "none: 'none' is the name of no augmentation"),
        ({"methods": [{"name": "full", "augmentations": ["b"]}]}, "asks for the augmentation 'b': known are none"),
        ({"keep_models": "perhaps"}, ": keep_models='perhaps' cannot be meant; give true or false"),
        ({"imported": [{"files": ["r"], "method": "a", "seed": "x"}]}, ": imported.0: seed='x' cannot be meant"),
    ],
)
def test_what_cannot_be_meant(change: dict[str, Any], says: str) -> None:
    content = {key: value for key, value in {**WHOLE, **change}.items() if value is not None}
    with pytest.raises(UsageError, match=f"^the plan.*{says}"):
        make_plan(content)


@pytest.mark.parametrize(
    ("text", "says"),
    [("- a\n- b", r"holds \['a', 'b'\], not keys"), ("a: [", "is not YAML"), (None, "cannot be read")],
)
def test_a_file_that_is_no_plan(tmp_path: Path, text: str | None, says: str) -> None:
    path = tmp_path / "plan.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=f"{re.escape(str(path))} {says}"):
        load_plan(path)


def test_an_error_names_the_file(tmp_path: Path, data: Path) -> None:
    with pytest.raises(UsageError, match=r"the plan .*plan\.yaml has no 'sedes'; it has out, pool"):
        load_plan(write_plan(tmp_path, data, sedes=3))
