"""Methods x budgets x seeds on one pool and one test set. In: a plan. Out: a table (Parquet, Markdown) and a figure.

out/cells/NAME-DIGEST.json   one per training, whole or absent; finished ones are not run again
out/scores/                  the pool's signals, shared by all methods
out/table.parquet, table.md, figure.png
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vlmsift.errors import UsageError
from vlmsift.experiment.cells import Bench, Progress, Record, State, open_bench, run_cells
from vlmsift.experiment.figure import draw_figure
from vlmsift.experiment.imported import import_runs
from vlmsift.experiment.markdown import as_markdown
from vlmsift.experiment.plan import FULL, Plan, load_plan, make_plan
from vlmsift.experiment.prepare import Cell, Prepared, prepare
from vlmsift.experiment.table import COLUMNS, Entry, Key, Row, as_table, build_rows
from vlmsift.files import write_atomically

__all__ = ["COLUMNS", "Plan", "State", "Validation", "load_plan", "make_plan", "validate"]


@dataclass(frozen=True)
class Validation:
    """What came out.

    Attributes:
        rows: the table, one mapping per row; see `COLUMNS`.
        notes: warnings on the plan, diverged trainings, cells left out of means.
        errors: name of a failed cell -> why. pending: cells that are not finished, failed ones left out.
        table, markdown, figure: the files; None for a shard, and the figure where there is nothing to draw.
    """

    rows: list[Row]
    notes: list[str]
    errors: dict[str, str]
    pending: list[str]
    table: Path | None = None
    markdown: Path | None = None
    figure: Path | None = None


def validate(
    plan: str | Path | Plan, *, shard: tuple[int, int] | None = None, progress: Progress | None = None
) -> Validation:
    """Run the cells of a plan that are not finished, and write the table.

    Args:
        plan: a YAML file (see `plan`), or a plan.
        shard: (i, n) runs every n-th cell from the i-th on (0 <= i < n), and writes no table: n processes share the
            work, and a call without it makes the table. Side by side they slow each other down; seconds show that.
        progress: told of each cell and each step.

    Raises:
        UsageError, FormatError, UnsupportedModel, RunMismatch: the plan cannot be carried out, told before any
            training. A cell that fails later is in `errors`.
    """
    if not isinstance(plan, Plan):
        plan = load_plan(plan)
    if shard is not None and not (len(shard) == 2 and 0 <= shard[0] < shard[1]):
        raise UsageError(f"shard={shard!r} cannot be meant; give (i, n) with 0 <= i < n, e.g. (0, 2) and (1, 2)")
    out = Path(plan.out)
    if out.is_file():
        raise UsageError(f"out: {out} is a file; name a folder")
    entries = import_runs(plan)
    notes: list[str] = []
    errors: dict[str, str] = {}
    pending: list[str] = []
    failed: list[Key] = []
    if plan.methods:
        prepared = prepare(plan)
        notes += prepared.warnings
        bench = open_bench(prepared, progress)
        first, step = (0, 1) if shard is None else shard
        run_cells(bench, prepared.cells[first::step], progress)
        trained: list[Entry] = []
        for cell in prepared.cells:
            if (record := bench.finished(cell)) is not None:
                trained += _entries(prepared, cell, record)
            elif (why := _error(bench, cell)) is not None:
                errors[cell.name] = why
                failed += [_key(cell, name) for name in _schedules(plan, cell)]
            else:
                pending.append(cell.name)
        entries = [*trained, *entries]
    rows, left_out = build_rows(entries, failed)
    notes += left_out
    notes += [f"failed, in no mean: {name}: {why}" for name, why in errors.items()]
    if shard is not None:
        return Validation(rows, notes, errors, pending)
    out.mkdir(parents=True, exist_ok=True)
    table, markdown = out / "table.parquet", out / "table.md"
    _write_table(table, rows)
    text = as_markdown(rows, notes)
    write_atomically(markdown, lambda path: path.write_text(text, encoding="utf-8"))
    return Validation(rows, notes, errors, pending, table, markdown, draw_figure(out / "figure.png", rows))


def _write_table(path: Path, rows: list[Row]) -> None:
    import pyarrow.parquet as pq

    table = as_table(rows)
    write_atomically(path, lambda temporary: pq.write_table(table, temporary))


def _error(bench: Bench, cell: Cell) -> str | None:
    try:
        return str(json.loads(bench.error_path(cell).read_text(encoding="utf-8"))["error"])
    except (OSError, ValueError, KeyError):
        return None


def _schedules(plan: Plan, cell: Cell) -> Iterable[str]:
    """Schedules that a cell stands for: the full pool's has its own number of steps under both."""
    return plan.schedule if cell.method == FULL and plan.steps is None else (cell.schedule,)


def _key(cell: Cell, schedule: str) -> Key:
    return Key("trained", schedule, cell.budget, cell.method, cell.augmentation.name)


def _entries(prepared: Prepared, cell: Cell, record: Record) -> Iterable[Entry]:
    """A finished cell as entries, one per schedule that it stands for."""
    seconds: list[Any] = [record["scoring_seconds"], record["choosing_seconds"]]
    entry = Entry(
        _key(cell, cell.schedule),
        cell.seed,
        cell.keep / len(prepared.pool),
        not cell.augmentation.words,
        record["samples"],
        record["steps"],
        record["training_seconds"],
        None if None in seconds else sum(seconds),
        record["diverged"],
        {task: one["accuracy"] for task, one in record["tasks"].items()},
        {task: one["loss"] for task, one in record["tasks"].items()},
    )
    return [replace(entry, key=_key(cell, name)) for name in _schedules(prepared.plan, cell)]
