"""The table as a page of Markdown. In: rows and notes. Out: text that states its tasks, columns and gaps."""

from __future__ import annotations

from collections.abc import Sequence

from vlmsift.experiment.table import COLUMNS, Row
from vlmsift.tables import Record, markdown_table, number, spread

PLACE = ("method", "budget", "schedule", "augmentation")


def as_markdown(rows: Sequence[Row], notes: Sequence[str]) -> str:
    """One section per origin, with a table of means and one of tasks; then the notes and the columns' meaning."""
    lines = ["# Comparison", ""]
    for origin in dict.fromkeys(row["origin"] for row in rows):
        own = [row for row in rows if row["origin"] == origin]
        tasks = [name.partition("/")[2] for name in own[0] if name.startswith("accuracy/")]
        over = f"All means are over these {len(tasks)} tasks: {', '.join(tasks)}."
        lines += [f"## {str(origin).capitalize()}", "", over if tasks else "No training is finished.", ""]
        lines += [markdown_table(main_records(own), left=len(PLACE)), ""]
        if tasks:
            scores = [_place(row) | {task: _score(row, task) for task in tasks} for row in own]
            lines += ["Score per task:", "", markdown_table(scores, left=len(PLACE)), ""]
    if notes:
        lines += ["## Notes", "", *(f"* {note}" for note in notes), ""]
    lines += ["## Columns", "", *(f"* `{name}`: {says}" for name, says in COLUMNS.items()), ""]
    return "\n".join(lines)


def main_records(rows: Sequence[Row]) -> list[Record]:
    """The main columns of the table as text."""
    return [_place(row) | _means(row) for row in rows]


def _place(row: Row) -> dict[str, str]:
    return {name: str(row[name]) for name in PLACE}


def _score(row: Row, task: str) -> str:
    return spread(row.get(f"accuracy/{task}"), row.get(f"accuracy_std/{task}"), 3)  # one without a task failed


def _means(row: Row) -> dict[str, str]:
    seeds = str(row["seeds"])
    for name in ("diverged", "failed"):
        seeds += f" ({row[name]} {name})" if row[name] else ""
    band = number(row["random_mean"], 3)
    if row["random_low"] is not None:
        band += f" [{number(row['random_low'], 3)}, {number(row['random_high'], 3)}]"
    return {
        "seeds": seeds,
        "samples": number(row["samples"], 0),
        "steps": number(row["steps"], 0),
        "accuracy": spread(row["accuracy"], row["accuracy_std"], 3),
        "loss": number(row["loss"], 3),
        "relative": spread(row["relative"], row["relative_std"], 1),
        "training s": number(row["training_seconds"], 1),
        "selection s": number(row["selection_seconds"], 1),
        "cost ratio": number(row["cost_ratio"], 2),
        "random [low, high]": band,
        "above random": {None: "", True: "yes", False: "no"}[row["above_random"]],
    }
