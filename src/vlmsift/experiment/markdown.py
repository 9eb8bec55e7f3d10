"""The table as a page of Markdown. In: rows and notes. Out: text that states its tasks, columns and gaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlmsift.experiment.table import COLUMNS, Row


def as_markdown(rows: Sequence[Row], notes: Sequence[str]) -> str:
    """One section per origin, with a table of means and one of tasks; then the notes and the columns' meaning."""
    lines = ["# Comparison", ""]
    for origin in dict.fromkeys(row["origin"] for row in rows):
        own = [row for row in rows if row["origin"] == origin]
        tasks = [name.partition("/")[2] for name in own[0] if name.startswith("accuracy/")]
        mean = (
            f"all means are over these {len(tasks)} tasks: {', '.join(tasks)}" if tasks else "no training is finished"
        )
        lines += [f"## {str(origin).capitalize()}", "", f"{mean[0].upper()}{mean[1:]}.", ""]
        lines += [*_lines([_main(row) for row in own]), ""]
        if tasks:
            lines += ["Score per task:", "", *_lines([_per_task(row, tasks) for row in own]), ""]
    if notes:
        lines += ["## Notes", "", *(f"* {note}" for note in notes), ""]
    lines += ["## Columns", "", *(f"* `{name}`: {says}" for name, says in COLUMNS.items()), ""]
    return "\n".join(lines)


def _place(row: Row) -> dict[str, str]:
    return {name: str(row[name]).replace("|", "\\|") for name in ("method", "budget", "schedule", "augmentation")}


def _main(row: Row) -> dict[str, str]:
    seeds = str(row["seeds"])
    for name in ("diverged", "failed"):
        seeds += f" ({row[name]} {name})" if row[name] else ""
    band = _number(row["random_mean"], 3)
    if row["random_low"] is not None:
        band += f" [{_number(row['random_low'], 3)}, {_number(row['random_high'], 3)}]"
    return {
        **_place(row),
        "seeds": seeds,
        "samples": _number(row["samples"], 0),
        "steps": _number(row["steps"], 0),
        "accuracy": _spread(row["accuracy"], row["accuracy_std"], 3),
        "loss": _number(row["loss"], 3),
        "relative": _spread(row["relative"], row["relative_std"], 1),
        "training s": _number(row["training_seconds"], 1),
        "selection s": _number(row["selection_seconds"], 1),
        "cost ratio": _number(row["cost_ratio"], 2),
        "random [low, high]": band,
        "above random": {None: "", True: "yes", False: "no"}[row["above_random"]],
    }


def _per_task(row: Row, tasks: Sequence[str]) -> dict[str, str]:
    scores = {task: _spread(row.get(f"accuracy/{task}"), row.get(f"accuracy_std/{task}"), 3) for task in tasks}
    return {**_place(row), **{task.replace("|", "\\|"): text for task, text in scores.items()}}


def _lines(cells: Sequence[dict[str, str]]) -> list[str]:
    head = list(cells[0])
    left = ("method", "budget", "schedule", "augmentation")
    rule = ["---" if name in left else "---:" for name in head]
    return [f"| {' | '.join(line)} |" for line in (head, rule, *(list(row.values()) for row in cells))]


def _number(value: Any, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _spread(value: Any, deviation: Any, digits: int) -> str:
    return _number(value, digits) + (f" ± {_number(deviation, digits)}" if deviation is not None else "")
