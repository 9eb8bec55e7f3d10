"""Methods x budgets x seeds on one pool and one test set. In: a plan. Out: a table (Parquet, Markdown) and a figure.

out/cells/NAME-DIGEST.json   one per training, whole or absent; finished ones are not run again
out/scores/                  the pool's signals, shared by all methods
out/table.parquet, table.md, figure.png
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from vlmsift.errors import UsageError
from vlmsift.experiment.account import account
from vlmsift.experiment.bench import open_bench
from vlmsift.experiment.cells import Cell, Progress, State, read_cells, run_cells
from vlmsift.experiment.figure import draw_figure
from vlmsift.experiment.imported import import_runs
from vlmsift.experiment.plan import FULL, Plan, load_plan, make_plan
from vlmsift.experiment.prepare import prepare
from vlmsift.experiment.table import COLUMNS, Key, Result, Row, as_table, build_rows
from vlmsift.files import check_output, write_atomically, write_text
from vlmsift.tables import Account, as_markdown, written_account

__all__ = ["COLUMNS", "Plan", "Result", "State", "Validation", "load_plan", "make_plan", "validate"]


@dataclass(frozen=True)
class Validation:
    """What came out.

    Attributes:
        rows: the table, one mapping per row; see `COLUMNS`. results: the trainings behind it, seed by seed.
        notes: warnings on the plan, diverged trainings, cells left out of means.
        errors: name of a failed cell -> why. pending: cells that are not finished, failed ones left out.
        table, markdown, figure: the files; None for a shard, and the figure where there is nothing to draw.
    """

    rows: list[Row]
    notes: list[str]
    errors: dict[str, str]
    pending: list[str]
    results: tuple[Result, ...] = ()
    table: Path | None = None
    markdown: Path | None = None
    figure: Path | None = None

    def account(self) -> Account:
        """The same as it is told."""
        return account(self.rows, self.notes)


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
        UsageError, FormatError, UnsupportedModel, RunMismatch, MissingExtra: the plan cannot be carried out, told
            before any training, and before the pool is scored wherever that can be known. A cell that fails later is
            in `errors`.
    """
    if not isinstance(plan, Plan):
        plan = load_plan(plan)
    if shard is not None and not (len(shard) == 2 and 0 <= shard[0] < shard[1]):
        raise UsageError(f"shard={shard!r} cannot be meant; give (i, n) with 0 <= i < n, e.g. (0, 2) and (1, 2)")
    out = Path(plan.out)
    check_output(out, folder=True)
    imported = import_runs(plan)
    results: list[Result] = []
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
        for cell, result, why in read_cells(bench, prepared.cells, len(prepared.pool)):
            keys = list(_keys(plan, cell))
            if result is not None:
                results += [replace(result, key=key) for key in keys]
            elif why is not None:
                errors[cell.name] = why
                failed += keys
            else:
                pending.append(cell.name)
    results += imported  # below our own
    rows, left_out = build_rows(results, failed)
    notes += [*left_out, *(f"failed, in no mean: {name}: {why}" for name, why in errors.items())]
    validation = Validation(rows, notes, errors, pending, tuple(results))
    return validation if shard is not None else _written(validation, out)


def _keys(plan: Plan, cell: Cell) -> Iterable[Key]:
    """The table's rows that a cell enters: the full pool's has its own number of steps under both schedules."""
    both = cell.method == FULL and plan.steps is None  # "steps" means as many as the full pool takes
    return [cell.key._replace(schedule=name) for name in (plan.schedule if both else (cell.schedule,))]


def _written(validation: Validation, out: Path) -> Validation:
    """Write table and figure."""
    import pyarrow.parquet as pq

    out.mkdir(parents=True, exist_ok=True)
    table, markdown, rows = out / "table.parquet", out / "table.md", validation.rows
    told = validation.account()
    content = as_table(rows).replace_schema_metadata(written_account(told))
    write_atomically(table, lambda path: pq.write_table(content, path))
    write_text(markdown, as_markdown(told))
    return replace(validation, table=table, markdown=markdown, figure=draw_figure(out / "figure.png", rows))
