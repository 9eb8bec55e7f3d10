"""What calibrating, training and validating print. In: results. Out: text on the terminal; progress goes to stderr."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from vlmsift.errors import split_reason
from vlmsift.terminal import PLAIN_EVERY, say, show

if TYPE_CHECKING:
    from vlmsift.calibrate import Calibration
    from vlmsift.experiment import State, Validation
    from vlmsift.train import Trained
    from vlmsift.train.configs import Configs

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
    show(found.account(), rows=_SHOWN, leave_out=("length", "loss"))
    say(f"scored in {found.seconds:.0f} s; recommended: {found.recommended}")
    say(f"next: vlmsift score POOL --model M --out RUN --config {found.config}")


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
        alike = [name for name in ("schedule", "augmentation") if len({row[name] for row in found.rows}) < 2]
        show(found.account(), leave_out=(*_ONLY_WRITTEN, *alike))
        say(f"written: {found.table}, {found.markdown}" + (f", {found.figure}" if found.figure else ""))
    else:
        for note in found.notes:
            say(f"note: {note}")
    for name, why in found.errors.items():
        say(f"failed: {name}: {why}")
    if found.pending:
        say(f"{len(found.pending):,} cells are not finished; the same command goes on with them")


def _counted(skipped: Mapping[str, str]) -> list[tuple[str, int]]:
    """Kinds of reasons, the commonest first."""
    return Counter(split_reason(reason)[0] for reason in skipped.values()).most_common()  # a tie: the first found
