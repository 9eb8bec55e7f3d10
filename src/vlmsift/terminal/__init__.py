"""What the command line prints. In: results. Out: text on the terminal; progress goes to stderr."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from vlmsift.report.accounts import run_account, selection_account
from vlmsift.tables import Account, Record

if TYPE_CHECKING:
    from vlmsift.check import Report
    from vlmsift.choosing.selection import Selection
    from vlmsift.runs.run import Run
    from vlmsift.scoring.score import Progress
    from vlmsift.scoring.shards import Shard

_OUT = Console(highlight=False, soft_wrap=True)
_WIDE = Console(highlight=False, width=max(Console().width, 160))  # a narrow terminal breaks a table's lines itself
_ERR = Console(stderr=True, highlight=False, soft_wrap=True)
PLAIN_EVERY = 10.0  # seconds between two lines of progress where stderr is no terminal


def say(text: str) -> None:
    """One line on stdout; nothing in it is markup."""
    _OUT.print(escape(text))


class Shown:
    """A progress callback that keeps the `last` state, and draws a bar or, without one, prints a line now and then."""

    def __init__(self, bar: Bar | None, every: float = PLAIN_EVERY) -> None:
        self.bar, self.every = bar, every
        self.last: Progress | None = None  # before the first
        self._resumed = 0  # rows that an earlier start has done
        self._told = 0.0  # seconds, of the line before
        self._task: Any = None

    def __call__(self, state: Progress) -> None:
        if self.last is None:
            self._begin(state)
        elif self.bar is not None:
            self.bar.update(self._task, total=state.total, completed=state.done, pace=self._pace(state))
        elif state.done > self.last.done and (state.seconds - self._told >= self.every or state.done == state.total):
            self._told = state.seconds
            share = f"{state.done:,} of {state.total:,} ({state.done / state.total:.0%})"
            _ERR.print(f"scoring: {share}, {self._pace(state)}")
        for note in state.notes[len(self.last.notes) if self.last else 0 :]:
            _ERR.print(escape(f"scoring: {note}"))
        self.last = dataclasses.replace(state)

    def _begin(self, state: Progress) -> None:
        self._resumed = state.done
        if self.bar is not None:
            self._task = self.bar.add_task("scoring", total=state.total, completed=state.done, pace="")
        else:
            before = f", {state.done:,} of them before" if state.done else ""
            _ERR.print(f"scoring: {state.total:,} rows{before}")

    def _pace(self, state: Progress) -> str:
        """Samples/s of this start, time left, and its error rows."""
        rate = (state.done - self._resumed) / state.seconds if state.seconds else 0.0
        rest = state.total - state.done  # rows
        left = f", {timedelta(seconds=round(rest / rate))} left" if rate and rest else ""
        errors = f", {state.errors:,} errors" if state.errors else ""
        return f"{rate:.1f} samples/s{left}{errors}"


@contextmanager
def progress_bar() -> Iterator[Shown]:
    """A bar on stderr with samples/s and time left; a plain line every 10 s where stderr is no terminal."""
    try:
        if not _ERR.is_terminal:
            yield Shown(None)
            return
        pace = TextColumn("{task.fields[pace]}")
        with Bar(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), pace, console=_ERR) as bar:
            yield Shown(bar)
    except KeyboardInterrupt:
        _ERR.print("vlmsift: stopped; finished parts are kept, and the same command goes on from there")
        raise


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
    say(report.model)
    _OUT.print(facts)
    _OUT.print(proofs)
    say("supported" if report.supported else f"not supported: {report.reasons}")


def show_shard(shard: Shard) -> None:
    """Which of several workers this is, and who said so; nothing where it is the only one."""
    if shard.count > 1:
        _ERR.print(f"scoring: worker {shard.index} of {shard.count}{f', by {shard.told}' if shard.told else ''}")


def show(account: Account, rows: int | None = None, leave_out: Sequence[str] = ()) -> None:
    """An account, without its details: the first `rows` of each table, without the columns in `leave_out`."""
    for section in account.sections:
        if not section.detail:
            if section.text:
                say(section.text)
            for point in section.points:
                say(f"  {point}")
            show_records(section.records[:rows], section.left, leave_out)


def show_records(records: Sequence[Record], left: int = 1, leave_out: Sequence[str] = ()) -> None:
    """A table; all but the `left` first columns are numbers."""
    if not records:
        return
    table = Table(box=box.SIMPLE_HEAD)
    for place, name in enumerate(records[0]):
        if name not in leave_out:
            table.add_column(escape(name), justify="left" if place < left else "right", no_wrap=place == 0)
    for record in records:
        table.add_row(*(escape(text) for name, text in record.items() if name not in leave_out))
    _WIDE.print(table)


def show_run(run: Run, state: Progress | None) -> None:
    """What a scoring run left, where it is, what is next."""
    speed = ""
    if state is not None and state.seconds:
        share = state.waited / state.seconds
        speed = f" in {state.seconds:.1f} s; the model waited for samples {share:.0%} of the time"
    show(run_account(run, speed))
    say(f"the run is in {run.place}")
    first = next((column.name for column in run.columns() if not column.is_list), None)  # `top` ranks by numbers
    if first is not None and run.summary()["ok"]:
        word = shlex.quote(f"top:by={first}")
        say(f"next: vlmsift select {shlex.quote(run.place)} --selector {word} --keep 20%")


def show_selection(selection: Selection, ending: str) -> None:
    """What a selection says of itself, and where it is."""
    show(selection_account(selection))
    say(ending)


def show_signals() -> None:
    """Each signal: its unit, what a higher value means, and its fields with their defaults."""
    from vlmsift.signals import DEFAULT_SIGNALS, SIGNALS

    for word, entry in SIGNALS.items():
        cls: Any = entry.func if isinstance(entry, partial) else entry
        signal = entry()
        fields = ", ".join(f"{field.name}={getattr(signal, field.name)}" for field in dataclasses.fields(cls))
        say(f"{word}{' *' if word in DEFAULT_SIGNALS else ''} ({signal.unit}). Higher: {signal.higher_means}")
        if fields:
            say(f"    {fields}")
    say("* measured by default. Ask for one as --signal NAME, NAME:field=value,... or COLUMN=NAME:field=value,...")
