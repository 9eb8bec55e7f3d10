"""What the command line prints. In: results. Out: text on the terminal; progress goes to stderr."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

if TYPE_CHECKING:
    from vlmsift.check import Report
    from vlmsift.pipeline import PoolSelection, Progress
    from vlmsift.store import Run

_OUT = Console(highlight=False, soft_wrap=True)
_ERR = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """One line on stdout; nothing in it is markup."""
    _OUT.print(escape(text))


class Shown:
    """A progress callback that draws a bar and remembers the last state."""

    def __init__(self, bar: Bar) -> None:
        self.bar = bar
        self.last: Progress | None = None
        self.task: Any = None
        self.resumed = 0

    def __call__(self, state: Progress) -> None:
        if self.task is None:
            self.task = self.bar.add_task("scoring", total=state.total, rate="", errors="")
            self.resumed = state.done
        rate = (state.done - self.resumed) / state.seconds if state.seconds else 0.0
        errors = f", {state.errors} errors" if state.errors else ""
        self.bar.update(self.task, completed=state.done, rate=f"{rate:.1f} samples/s", errors=errors)
        self.last = dataclasses.replace(state)


@contextmanager
def progress_bar() -> Iterator[Shown]:
    """A bar on stderr with samples/s and time left; plain where stderr is no terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}{task.fields[errors]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=_ERR) as bar:
        yield Shown(bar)


def show_report(report: Report) -> None:
    """Facts, proofs and the verdict of `vlmsift check`."""
    facts = Table(box=None, show_header=False)
    for name, value in report.facts.items():
        facts.add_row(name, escape(value))
    proofs = Table(title="proofs", title_justify="left")
    for column in ("what", "passed", "largest difference", "how"):
        proofs.add_column(column)
    for proof in report.proofs:
        size = "" if proof.difference is None else f"{proof.difference:.1e}"
        proofs.add_row(proof.name, "yes" if proof.passed else "NO", size, escape(proof.detail))
    _OUT.print(f"{escape(report.model)}")
    _OUT.print(facts)
    _OUT.print(proofs)
    if report.supported:
        say("supported")
    else:
        reasons = "; ".join(f"{proof.name}: {proof.detail}" for proof in report.proofs if not proof.passed)
        say(f"not supported: {reasons}")


def show_run(run: Run, state: Progress | None) -> None:
    """What a scoring run left: rows, errors by kind, signals, speed."""
    summary = run.summary()
    errors = sum(summary["errors"].values())
    say(
        f"{summary['rows']:,} rows: {summary['ok']:,} scored, {errors:,} error rows, {summary['text_only']:,} text-only"
    )
    for kind, count in summary["errors"].items():
        say(f"  {count:,} x {kind}")
    for name, count in summary["undefined"].items():
        if count:
            say(f"  {name} is undefined for {count:,} scored rows")
    if state is not None and state.seconds:
        share = state.waited / state.seconds
        say(f"{state.seconds:.1f} s; the model waited for samples {share:.0%} of the time")
    say(f"signals in {run.folder}; next: vlmsift select {run.folder} --by {run.columns()[0].name} --keep 20%")


def show_selection(selection: PoolSelection, ending: str) -> None:
    """How many rows are kept, by what, and why the others are dropped."""
    made = selection.made_by
    total = len(selection.ids) + len(selection.dropped)
    say(
        f"{len(selection.ids):,} of {total:,} rows kept by {made.get('by')} ({made.get('pick')}), balance: {made.get('balance')}"
    )
    say(ending)


def show_signals() -> None:
    """The table of signals."""
    from vlmsift.signals import SIGNALS

    table = Table()
    for column in ("signal", "unit", "higher means", "fields"):
        table.add_column(column)
    for word, entry in SIGNALS.items():
        cls: Any = entry.func if isinstance(entry, partial) else entry
        signal = entry()
        fields = ", ".join(f"{field.name}={getattr(signal, field.name)}" for field in dataclasses.fields(cls))
        table.add_row(word, signal.unit, signal.higher_means, fields)
    _OUT.print(table)


def show_methods() -> None:
    """The table of methods."""
    from vlmsift.methods import METHODS

    table = Table()
    for column in ("method", "signals", "keeps", "balance", "forwards", "source"):
        table.add_column(column)
    for name, method in METHODS.items():
        table.add_row(name, ", ".join(method.signals), method.pick, method.balance, method.cost, method.source)
    _OUT.print(table)
