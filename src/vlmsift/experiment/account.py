"""What a comparison says of itself. In: rows and notes. Out: an account that states its tasks, columns and gaps."""

from __future__ import annotations

from collections.abc import Sequence

from vlmsift.experiment.table import COLUMNS, Row
from vlmsift.tables import Account, Section, number, spread

PLACE = ("method", "budget", "schedule", "augmentation")


def account(rows: Sequence[Row], notes: Sequence[str]) -> Account:
    """One section per origin, with a table of means and one of tasks; then the notes and the columns' meaning."""
    sections = []
    for origin in dict.fromkeys(row["origin"] for row in rows):
        own = [row for row in rows if row["origin"] == origin]
        tasks = [name.partition("/")[2] for name in own[0] if name.startswith("accuracy/")]
        over = f"All means are over these {len(tasks)} tasks: {', '.join(tasks)}."
        means, left = [_place(row) | _means(row) for row in own], len(PLACE)
        told = over if tasks else "No training is finished."
        sections.append(Section(str(origin).capitalize(), told, records=means, left=left))
        if tasks:
            scores = [_place(row) | {task: _score(row, task) for task in tasks} for row in own]
            sections.append(Section(text="Score per task:", records=scores, left=left, detail=True))
    if notes:
        sections.append(Section("Notes", points=notes))
    columns = [f"`{name}`: {says}" for name, says in COLUMNS.items()]
    return Account("Comparison", [*sections, Section("Columns", points=columns, detail=True)])


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
