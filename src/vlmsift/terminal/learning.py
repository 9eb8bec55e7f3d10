"""What calibrating, training and validating print. In: results. Out: text on the terminal; progress goes to stderr."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vlmsift.errors import split_reason
from vlmsift.tables import Record
from vlmsift.terminal import PLAIN_EVERY, say

if TYPE_CHECKING:
    from vlmsift.calibrate import Calibration
    from vlmsift.experiment import State, Validation
    from vlmsift.train import Trained
    from vlmsift.train.configs import Configs

_OUT = Console(highlight=False, width=max(Console().width, 160))  # a narrow terminal breaks the lines itself
_ERR = Console(stderr=True, highlight=False, soft_wrap=True)
_SHOWN = 15  # rows of a calibration that are printed; the rest is in its files
_ONLY_WRITTEN = ("samples", "loss", "training s", "selection s", "random [low, high]")  # columns left to the files


class Ticker:
    """Prints a line of progress now and then; the first call always does."""

    def __init__(self) -> None:
        self._told = -PLAIN_EVERY

    def __call__(self, text: str) -> None:
        if time.monotonic() - self._told >= PLAIN_EVERY:
            self._told = time.monotonic()
            _ERR.print(escape(text))


@contextmanager
def training_bar() -> Iterator[Callable[[int, int, float], None]]:
    """A progress callback for `train`: steps, and the loss."""
    tick = Ticker()
    yield lambda step, steps, loss: tick(f"training: step {step:,} of {steps:,}, loss {loss:.3f}")


@contextmanager
def validation_bar() -> Iterator[Callable[[State], None]]:
    """A progress callback for `validate`: cells, and the step of the one under way."""
    tick = Ticker()

    def tell(state: State) -> None:
        inside = f", {state.steps:,} of {state.of:,}" if state.of else ""
        tick(f"validating: {state.done:,} of {state.total:,} cells done; {state.doing}{inside}")

    yield tell


def show_calibration(found: Calibration) -> None:
    """The verdict, the best settings, and where the rest is."""
    counts = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in found.counts.items())
    say(f"planted: {counts}")
    for sentence in found.left_out:
        say(f"  {sentence}")
    _print_table(found.records(_SHOWN), leave_out=("length", "loss"))
    if found.probe is not None:
        say("what short trainings on the best 20 % gave (accuracy on held-out samples):")
        _print_table(found.probe.records())
    for sentence in found.sentences:
        say(f"* {sentence}")
    if found.weights:
        weights = ", ".join(f"{word} {weight:+.2f}" for word, weight in found.weights.items())
        say(f"weights of the signal `calibrated`, on standardised values: {weights}")
    cost = f"{found.forwards:.1f} forwards per sample for the whole grid ({found.alone:.1f} one by one)"
    say(f"cost: {cost}, {found.seconds:.0f} s")
    say(f"recommended: {found.recommended}; next: vlmsift score POOL --model M --out RUN --config {found.config}")


def show_trained(trained: Trained) -> None:
    """What a training came to."""
    size = f"{trained.samples:,} samples, {trained.steps:,} steps, {trained.seconds:.0f} s"
    say(f"{size}, loss {trained.loss:.4f} nats; the model is in {trained.folder}")
    if trained.diverged:
        say("the training DIVERGED: its loss is not finite, or far above where it began; try a lower learning_rate")
    for reason, count in _counted(trained.skipped):
        say(f"skipped: {count:,} x {reason}")
    if trained.snapshots:
        names = ", ".join(path.name for path in trained.snapshots)
        say(f"{len(trained.snapshots):,} snapshots in {trained.snapshots[0].parent}: {names}")


def show_configs(written: Configs) -> None:
    """The files for trainers elsewhere, and what those cannot follow."""
    say(f"{written.samples:,} samples in {written.data}")
    say(f"LLaMA-Factory: llamafactory-cli train {written.llama_factory}")
    say(f"ms-swift:      swift sft --config {written.ms_swift}")
    for note in written.notes:
        say(f"note: {note}")
    for reason, count in _counted(written.skipped):
        say(f"skipped: {count:,} x {reason}")


def show_validation(found: Validation) -> None:
    """The table, the notes, and where the files are."""
    if found.markdown is not None:
        records = found.records()
        alike = [name for name in ("schedule", "augmentation") if len({record[name] for record in records}) < 2]
        _print_table(records, leave_out=(*_ONLY_WRITTEN, *alike))
        say(f"written: {found.table}, {found.markdown}" + (f", {found.figure}" if found.figure else ""))
    for note in found.notes:
        say(f"note: {note}")
    for name, why in found.errors.items():
        say(f"failed: {name}: {why}")
    if found.pending:
        say(f"{len(found.pending):,} cells are not finished; the same command goes on with them")


def _counted(skipped: Mapping[str, str]) -> list[tuple[str, int]]:
    """Kinds of reasons, the commonest first."""
    return Counter(split_reason(reason)[0] for reason in skipped.values()).most_common()  # a tie: the first found


def _print_table(records: Sequence[Record], leave_out: Sequence[str] = ()) -> None:
    if not records:
        return
    names = [name for name in records[0] if name not in leave_out]
    table = Table(box=box.SIMPLE_HEAD)
    for place, name in enumerate(names):
        table.add_column(escape(name), justify="right" if place else "left", no_wrap=place == 0)
    for record in records:
        table.add_row(*(escape(record[name]) for name in names))
    _OUT.print(table)
