"""What the command line prints. In: results. Out: text on the terminal; progress goes to stderr."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from vlmsift.choosing.answers import MUCH
from vlmsift.errors import split_reason
from vlmsift.proxy import Told
from vlmsift.runs.spoiled import read_spoiled

if TYPE_CHECKING:
    from vlmsift.check import Report
    from vlmsift.choosing.selection import Selection
    from vlmsift.runs.run import Run
    from vlmsift.scoring.score import Progress
    from vlmsift.scoring.shards import Shard

_OUT = Console(highlight=False, soft_wrap=True)
_ERR = Console(stderr=True, highlight=False, soft_wrap=True)
PLAIN_EVERY = 10.0  # seconds between two lines of progress where stderr is no terminal
_END = {"highest": "the highest", "lowest": "the lowest", "middle": "the middle of", "band": "drawn from a band of"}


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


def show_run(run: Run, state: Progress | None) -> None:
    """What a scoring run left: rows scored, speed, errors by kind with an example each, where it is, what is next."""
    summary = run.summary()
    speed = ""
    if state is not None and state.seconds:
        share = state.waited / state.seconds
        speed = f" in {state.seconds:.1f} s; the model waited for samples {share:.0%} of the time"
    say(f"{summary['ok']:,} of {run.pool_rows:,} rows scored{speed}")
    if summary["not_asked"]:
        where = run.settings["identity"]["asked"]["where"]
        say(f"  {summary['not_asked']:,} rows were not asked, as not ({where}); they are never selected")
    if summary["text_only"]:
        say(f"  {summary['text_only']:,} rows have no image")
    if summary["errors"]:
        say(f"  {sum(summary['errors'].values()):,} error rows, which are never selected:")
        examples = _examples(run, summary["errors"])
        for kind, count in summary["errors"].items():
            say(f"    {count:,} x {kind}; the first is {examples[kind]}")
    for name, count in summary["undefined"].items():
        if count > 0:
            say(f"  {name} is undefined (null) for {count:,} scored rows")
    say(f"the run is in {run.place}")
    first = next((column.name for column in run.columns() if not column.is_list), None)  # `top` ranks by numbers
    if first is not None and summary["ok"]:
        word = shlex.quote(f"top:by={first}")
        say(f"next: vlmsift select {shlex.quote(run.place)} --selector {word} --keep 20%")


def _examples(run: Run, kinds: Collection[str]) -> dict[str, str]:
    """Each of the kinds of error -> the first sample of that kind, with the rest of its reason."""
    import pyarrow.compute as pc

    found: dict[str, str] = {}
    for batch in run.batches(["id", "status", "reason"]):
        for row in batch.filter(pc.equal(batch["status"], "error")).to_pylist():
            kind, detail = split_reason(row["reason"])
            found.setdefault(kind, f"{row['id']!r}{': ' if detail else ''}{detail}")
        if len(found) == len(kinds):
            break
    return found


def show_selection(selection: Selection, ending: str) -> None:
    """How many rows are kept, by what, within which values, how they are balanced, and why the others are dropped."""
    made = selection.made_by
    kept, total = made["budget"], made["rows"]
    say(f"{kept:,} of {total:,} rows kept: {_by(made)}{_values(selection)}")
    for stratum in made["strata"]:
        rows = "rows with images" if stratum["stratum"] == "images" else f"{stratum['stratum']} rows"
        say(f"  {stratum['keeps']:,} of {stratum['rows']:,} {rows}{_how(made, stratum)}")
    if selection.run is not None and (told := read_spoiled(selection.run.place)) is not None:
        say(told.sentence())
    for line in _told(selection.run):
        say(line)
    for line in _moved(made.get("answers_moved")):
        say(line)
    ruled_out = dict(made["ruled_out"])
    lower = total - kept - sum(ruled_out.values())
    suspects = sum(stratum["suspects"] - stratum["refilled"] for stratum in made["strata"] if "suspects" in stratum)
    judged = sum(stratum.get("judged_out", 0) for stratum in made["strata"])
    rest = lower - suspects - judged
    causes = {"suspects": suspects, "judged the worst": judged, "ranked lower, or not drawn": rest, **ruled_out}
    why = ", ".join(f"{count:,} {label}" for label, count in causes.items() if count)
    if why:
        say(f"dropped: {why}")
    say(ending)


def _told(run: Run | None) -> list[str]:
    """How a run came by numbers that a proxy told, and what it took."""
    if run is None or "predicted" not in run.settings["identity"]:
        return []
    signals, cost = run.settings["identity"]["signals"], run.settings["info"]["cost"]
    lines = [Told(**one["predicted"]).sentence(name) for name, one in signals.items() if "predicted" in one]
    spent = " and ".join(
        f"{cost[who]['forwards']:g} forwards of {cost[who]['rows']:,} rows by the {who}, "
        f"{cost[who]['parameters']:,} parameters"
        for who in ("proxy", "target")
    )
    return [*lines, f"scoring took {spent}: {cost['ratio']:.0%} of the target scoring every row"]


def _moved(move: Any) -> list[str]:
    """What a selection does to the answers, where a user should know."""
    if not move:
        return []
    what = f"among questions like {move['form']!r} the answer {move['answer']!r} goes from {move['before']:.0%} of the "
    what += f"pool's to {move['after']:.0%} of the kept"
    if abs(move["after"] - move["before"]) <= MUCH:
        return [f"answers: {what}, which is the largest move"]
    return [f"warning: {what}; a model may learn that answer in the picture's place. Balance by form keeps the shares"]


def _by(made: Any) -> str:
    """What chose."""
    if made["selector"] != "top":  # by no single number
        return (
            f"chosen by {made['selector']}{' from ' + made['vector'] if 'vector' in made and 'by' not in made else ''}"
        )
    return f"{_END.get(made['pick'], made['pick'])} {made['by']}"


def _values(selection: Selection) -> str:
    """The range of the kept values, and of all."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = pa.Table.from_batches(selection.batches(["kept", "value"]))
    ends = [pc.min_max(part["value"]).as_py() for part in (rows.filter(rows["kept"]), rows)]
    if ends[0]["min"] is None:  # nothing is kept, or nothing was ranked
        return ""
    units = {column.name: column.unit for column in selection.run.columns()} if selection.run else {}
    name = selection.made_by.get("by") or selection.made_by.get("first", {}).get("by")  # of a `then`, who judges
    unit = f" {units[name]}" if name in units and units[name] != "none" else ""
    kept, every = (f"{end['min']:.4g} to {end['max']:.4g}" for end in ends)
    return f", {kept}{unit} (all rows: {every})"


def _how(made: Any, stratum: Any) -> str:
    """How a stratum's rows were chosen."""
    if stratum["selector"] == "random" and made["selector"] != "random":
        return ", drawn at random"
    return _balance(made, stratum) if made["selector"] == "top" else _by_groups(stratum)


def _by_groups(stratum: Any) -> str:
    """What a selector that ranks by no single number found in a stratum."""
    facts = []
    if "suspects" in stratum:
        layers = ", ".join(map(str, stratum["sensitive_layers"]))
        why = f"by layers {layers}" if layers else "no layer falls in two"
        few = "too_few_rows" in stratum
        facts.append("too few rows to judge" if few else f"{stratum['suspects']:,} suspects, {why}")
    if "judged_out" in stratum:
        facts.append(f"after the worst {stratum['judged_share']:.0%} were dropped ({stratum['judged_by']})")
    if stratum.get("balance") == "source":
        facts.append("sources apart")
    if "clusters_found" in stratum:
        facts.append(f"{stratum['clusters_found']:,} clusters")
    return "".join(f", {fact}" for fact in facts)


def _balance(made: Any, stratum: Any) -> str:
    """What the rows of a stratum are balanced by, how many groups that gives, and why "auto" chose it."""
    balance, groups = stratum.get("balance"), stratum.get("groups", 0)
    if balance is None:
        return ""
    if balance == "none":
        return ", not balanced"
    count = f"{groups:,} group{'' if groups == 1 else 's'}"
    if made["balance"] == "auto":
        count += "; auto: " + {
            "answer": f"{stratum.get('repeated', 0):.0%} have a short answer that repeats",
            "clusters": "most answers are long or do not repeat",
        }.get(balance, f"most answers do not repeat, and there is no {made['vector']} to cluster")
    return f", balanced by {balance} ({count})"


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
