"""Result files of lmms-eval as results; what is ambiguous is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlmsift.errors import UsageError
from vlmsift.experiment import make_plan, validate
from vlmsift.experiment.imported import import_runs


def write_results(path: Path, scores: dict[str, dict[str, Any]], **changes: Any) -> str:
    """A file as lmms-eval writes it, as far as it is read."""
    lines = {
        task: {
            "alias": f" - {task}",
            **metrics,
            **{name.replace(",", "_stderr,"): 0.01 for name in metrics},
            **{name.replace(",", "_stderr_clt,"): "N/A" for name in metrics},
        }
        for task, metrics in scores.items()
    }
    content = {
        "results": lines,
        "group_subtasks": {task: [] for task in scores},
        "versions": dict.fromkeys(scores, "Yaml"),
        "n-shot": dict.fromkeys(scores, 0),
        "higher_is_better": {task: {name.split(",")[0]: True for name in one} for task, one in scores.items()},
        "n-samples": {task: {"original": 100, "effective": 100} for task in scores},
        "config": {"model": "llava", "batch_size": "1", "limit": None},
        **changes,
    }
    path.write_text(json.dumps(content))
    return str(path)


BOTH = {"gqa": {"exact_match,none": 0.6}, "pope": {"pope_accuracy,none": 0.8, "pope_f1_score,none": 0.9}}


def plan_of(*runs: dict[str, Any], **changes: Any) -> Any:
    return make_plan({"out": "o", "imported": list(runs), **changes})


def test_a_run_of_two_files_has_the_main_metric_of_each_task(tmp_path: Path) -> None:
    files = [write_results(tmp_path / f"{task}.json", {task: BOTH[task]}) for task in BOTH]
    run = {"files": files, "method": "mine", "budget": "20%", "seed": 3, "steps": 10, "training_seconds": 5.0}
    (result,) = import_runs(plan_of(run))
    assert result.scores == {"gqa": 0.6, "pope": 0.9}
    assert (*result.key, result.seed) == ("imported", "epochs", "20%", "mine", "none", 3)
    assert (result.share, result.steps, result.training_seconds, result.samples) == (0.2, 10, 5.0, None)


def test_imported_runs_make_a_table_of_their_own(tmp_path: Path) -> None:
    full = write_results(tmp_path / "full.json", BOTH)
    less = write_results(
        tmp_path / "less.json", {"gqa": {"exact_match,none": 0.3}, "pope": {"pope_f1_score,none": 0.9}}
    )
    runs = [
        {"files": full, "method": "full", "training_seconds": 100},
        {"files": [less], "method": "mine", "budget": "20%", "training_seconds": 20, "selection_seconds": 30},
    ]
    found = validate(plan_of(*runs, out=str(tmp_path / "out")))
    row = found.rows[1]
    assert (row["origin"], row["relative"], row["cost_ratio"]) == ("imported", pytest.approx(75), 0.5)
    assert row["accuracy"] == pytest.approx(0.6)
    assert found.figure is not None
    assert found.figure.stat().st_size > 1000
    assert "over these 2 tasks: gqa, pope" in found.markdown.read_text()  # type: ignore[union-attr]


def test_the_plan_may_name_metrics_and_tasks(tmp_path: Path) -> None:
    scores = {**BOTH, "new": {"score,strict": 3, "score,loose": 4}, "group": {}}
    file = write_results(tmp_path / "r.json", scores)
    run = {"files": file, "method": "full"}
    metrics = {"pope": "pope_accuracy", "new": "score,loose"}
    (result,) = import_runs(plan_of(run, metrics=metrics))
    assert result.scores == {"gqa": 0.6, "pope": 0.8, "new": 4}
    (result,) = import_runs(plan_of(run, tasks=["gqa"]))
    assert result.scores == {"gqa": 0.6}


@pytest.mark.parametrize(
    ("scores", "changes", "plan", "says"),
    [
        (
            {"new": {"score,none": 1}},
            {},
            {},
            "main metric of 'new' is unknown; it has score,none; name it with metrics",
        ),
        ({"gqa": {"exact_match,a": 1, "exact_match,b": 1}}, {}, {}, "of 'gqa' fits exact_match,a, exact_match,b; name"),
        ({"gqa": {"acc,none": 1}}, {}, {}, "'exact_match' of 'gqa' is not there; it has acc,none"),
        ({"new": {"wer,none": 1}}, {"higher_is_better": {"new": {"wer": False}}}, {"metrics": {"new": "wer"}}, "less"),
        ({"new": {"wer,none": 1}}, {"higher_is_better": {}}, {"metrics": {"new": "wer"}}, "does not say whether more"),
        ({"gqa": {"exact_match,none": "N/A"}}, {}, {"metrics": {"gqa": "exact_match"}}, "is not there; it has no numb"),
        (BOTH, {"results": []}, {}, "has no 'results'; give a results file of lmms-eval"),
        (BOTH, {}, {"tasks": ["gqa", "mme"]}, r"do not have the same tasks \(mme\)"),
    ],
)
def test_what_is_ambiguous_is_refused(
    tmp_path: Path, scores: Any, changes: dict[str, Any], plan: dict[str, Any], says: str
) -> None:
    file = write_results(tmp_path / "r.json", scores, **changes)
    with pytest.raises(UsageError, match=says):
        import_runs(plan_of({"files": file, "method": "full"}, **plan))


def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    whole = {"files": write_results(tmp_path / "whole.json", BOTH), "method": "full"}
    less = {"files": write_results(tmp_path / "less.json", {"gqa": BOTH["gqa"]}), "method": "mine", "budget": "5%"}
    with pytest.raises(UsageError, match=r"less.json and the runs before it .* same tasks \(pope\): .*name those"):
        import_runs(plan_of(whole, less))
    with pytest.raises(UsageError, match=r"whole.json and the runs before it .* same tasks \(pope\)"):
        import_runs(plan_of(less, whole))
    few = write_results(
        tmp_path / "few.json", BOTH, **{"n-samples": {"gqa": {"effective": 8}, "pope": {"effective": 100}}}
    )
    with pytest.raises(UsageError, match=r"gqa: .*few.json judged 8 questions, .*whole.json 100"):
        import_runs(plan_of(whole, {**less, "files": few}))
    with pytest.raises(UsageError, match="full none seed 0 is there already; give each run its own seed"):
        import_runs(plan_of(whole, whole))
    with pytest.raises(UsageError, match="the task 'gqa' is in another file of this run"):
        import_runs(plan_of({**whole, "files": [whole["files"], less["files"]]}))
    with pytest.raises(UsageError, match=r"no\.json cannot be read"):
        import_runs(plan_of({**whole, "files": str(tmp_path / "no.json")}))
    for budget in ("half", "120%", "0%"):
        with pytest.raises(UsageError, match=f"budget '{budget}' is neither a share"):
            import_runs(plan_of({**whole, "budget": budget}))
