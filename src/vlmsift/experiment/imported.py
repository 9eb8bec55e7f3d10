"""Runs made elsewhere. In: result files of lmms-eval. Out: results in the same table.

A file has `results`: task -> {"metric,filter": number, "alias": ..., "metric_stderr,filter": ...}, `higher_is_better`:
task -> metric -> bool, and `n-samples`: task -> {"original", "effective"}. Only metrics where higher is better enter.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlmsift.errors import UsageError
from vlmsift.experiment.plan import NONE, Imported, Plan
from vlmsift.experiment.table import Key, Result

MAIN_METRICS = {
    "ai2d": "exact_match",
    "chartqa": "relaxed_overall",
    "gqa": "exact_match",
    "llava_in_the_wild": "gpt_eval_llava_all",
    "mmbench_cn_dev": "gpt_eval_score",
    "mmbench_en_dev": "gpt_eval_score",
    "mme": "mme_perception_score",
    "mmmu_val": "mmmu_acc",
    "mmvet": "gpt_eval_score",
    "ocrbench": "ocrbench_accuracy",
    "ok_vqa": "exact_match",
    "pope": "pope_f1_score",
    "scienceqa_img": "exact_match",
    "seedbench": "seed_image",
    "textvqa_val": "exact_match",
    "vizwiz_vqa_val": "exact_match",
    "vqav2_val": "exact_match",
}
"""Task of lmms-eval -> the metric that enters the table unless the plan names another; higher is better in all."""


def import_runs(plan: Plan) -> list[Result]:
    """A result per run of `plan.imported`, all with the same tasks.

    Raises:
        UsageError: a file that is no result of lmms-eval, a task without a metric, a metric that is ambiguous or of
            which less is better, or runs that differ in their tasks or in the number of questions.
    """
    results: list[Result] = []
    counts: dict[str, tuple[Any, str]] = {}  # task -> questions, and the first file with it
    wanted: set[str] | None = None if plan.tasks is None else set(plan.tasks)
    seen: set[tuple[Key, int]] = set()
    for run in plan.imported:
        scores: dict[str, float] = {}
        for file in run.files:
            for task, (score, count) in _read(Path(file), plan).items():
                if task in scores:
                    raise UsageError(f"imported: {file}: the task {task!r} is in another file of this run; name one")
                scores[task] = score
                other, where = counts.setdefault(task, (count, file))
                if count != other:
                    judged = f"{file} judged {count} questions, {where} {other}"
                    raise UsageError(f"imported: {task}: {judged}; import runs over the same questions")
        wanted = set(scores) if wanted is None else wanted
        if lacking := sorted(wanted ^ set(scores)):
            raise UsageError(
                f"imported: {run.files[0]} and the runs before it do not have the same tasks ({', '.join(lacking)}): a "
                "mean over other tasks is another number; name those that all have with tasks: [...]"
            )
        result = _result(run, scores)
        if (result.key, result.seed) in seen:
            raise UsageError(f"imported: {run.files[0]}: {result.name} is there already; give each run its own seed")
        seen.add((result.key, result.seed))
        results.append(result)
    return results


def _result(run: Imported, scores: Mapping[str, float]) -> Result:
    budget = str(run.budget).strip()
    try:
        share = float(budget.removesuffix("%")) / 100 if budget.endswith("%") else None
        if share is None:  # a count, of a pool whose size is not told
            int(budget)
    except ValueError:
        share = -1.0
    if share is not None and not 0 < share <= 1:
        raise UsageError(f"imported: budget {run.budget!r} is neither a share such as '20%' nor a count")
    key = Key("imported", run.schedule, str(run.budget), run.method, run.augmentation)
    known = (run.samples, run.steps, run.training_seconds, run.selection_seconds)
    return Result(key, run.seed, share, run.augmentation == NONE, *known, False, scores, {})


def _read(file: Path, plan: Plan) -> dict[str, tuple[float, Any]]:
    """Task -> (score, number of questions), of the tasks that the plan wants."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"imported: {file} cannot be read ({error}); give a results file of lmms-eval") from error
    results = content.get("results") if isinstance(content, Mapping) else None  # task -> numbers
    if not isinstance(results, Mapping):
        raise UsageError(f"imported: {file} has no 'results'; give a results file of lmms-eval")
    scores = {}
    for task, values in results.items():
        if plan.tasks is not None and task not in plan.tasks:
            continue
        numbers = {name: value for name, value in values.items() if _is_score(name, value)}
        if numbers or task in plan.metrics:  # a group of tasks has a line without scores
            score = _score(file, task, numbers, plan.metrics.get(task) or MAIN_METRICS.get(task), content)
            scores[task] = score, content.get("n-samples", {}).get(task, {}).get("effective")
    return scores


def _is_score(name: str, value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return number and "," in name and "_stderr" not in name


def _score(file: Path, task: str, numbers: Mapping[str, float], metric: str | None, content: Any) -> float:
    """The score that enters the table. Raises UsageError where it is not plain which one that is."""
    has = ", ".join(numbers) or "no numbers"
    if metric is None:
        cure = f"name it with metrics: {{{task}: ...}}, or leave the task out with tasks: [...]"
        raise UsageError(f"imported: {file}: the main metric of {task!r} is unknown; it has {has}; {cure}")
    matching = [name for name in numbers if metric in (name, name.partition(",")[0])]  # "metric,filter", or either
    told = f"imported: {file}: the metric {metric!r} of {task!r}"
    if len(matching) != 1:
        what = f"fits {', '.join(matching)}" if matching else f"is not there; it has {has}"
        raise UsageError(f'{told} {what}; name one with metrics: {{{task}: "..."}}')
    directions = content.get("higher_is_better", {}).get(task, {})
    higher = directions.get(matching[0].partition(",")[0], True if MAIN_METRICS.get(task) == metric else None)
    if higher is not True:
        why = "less of it is better" if higher is False else "the file does not say whether more of it is better"
        raise UsageError(f"{told} cannot be averaged: {why}; name another")
    return float(numbers[matching[0]])
