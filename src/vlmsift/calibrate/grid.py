"""What is calibrated: every scalar signal of the house, a grid of Delta-AttnMask, and a random control beside each.

In: a size or command-line words, and the model's depth. Out: candidates with their direction and their cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from vlmsift.errors import UsageError
from vlmsift.passes.interventions import MaskedLoss
from vlmsift.passes.masking import Masking
from vlmsift.signals import build_signals, forwards, signal_word
from vlmsift.signals.delta_attnmask import DeltaAttnMask
from vlmsift.types import Signal

PLAIN = ("answer_loss", "answer_tokens", "surprise", "el2n", "image_attention", "image_entropy", "image_gain", "random")
DEAR = ("ifd", "image_spectrum")  # the full grid adds them; `attention_influence` needs heads: only where asked for
VECTOR = "hidden_mean"  # measured as well, because balanced selections may cluster by it; not a candidate


@dataclass(frozen=True)
class Size:
    """A grid of Delta-AttnMask settings."""

    depths: tuple[float, ...]  # fractions of L; 0.999 is the last layer's input
    ratios: tuple[float, ...]
    eligible: tuple[str, ...]
    rows: tuple[str, ...]


SIZES: dict[str, Size] = {
    "small": Size((0.0, 0.25, 0.5), (0.2, 0.5), ("image", "context"), ("answer", "all")),
    "full": Size(
        (0.0, 0.125, 0.25, 0.5, 0.75, 0.999), (0.1, 0.2, 0.5, 0.8), ("image", "context", "all"), ("answer", "all")
    ),
}


@dataclass(frozen=True)
class Candidate:
    """A signal with one setting."""

    column: str  # its name in the run
    word: str  # what builds it, without the column
    family: str  # "delta", "control" (a masking of random or least attended tokens), "signal" or "combined"
    good: str  # the end at which good samples are expected, "highest" or "lowest"
    forwards: float  # text forwards per sample that it costs alone, see `signals.forwards`
    control: str = ""  # the column of its random control, if it has one
    setting: tuple[tuple[str, Any], ...] = ()  # depth (layer index), ratio, eligible and rows of a masking


def candidates(grid: str | Sequence[str], depth: int) -> list[Candidate]:
    """The candidates of a grid, for a model of L = `depth` layers; settings that mean the same layer come once.

    Args:
        grid: "small", "full", or words as on the command line ("late=delta_attnmask:depth=-1"), taken as they are, with
            the loss, `random` and a random control for each delta setting added.

    Raises:
        UsageError: an unknown size, or a word that cannot be meant.
    """
    if isinstance(grid, str):
        if grid not in SIZES:
            raise UsageError(f"there is no grid {grid!r}; give {' or '.join(SIZES)}, or a list of signals")
        asked = build_signals([*PLAIN, *(DEAR if grid == "full" else ()), *_words(SIZES[grid], depth)])
    elif not grid:
        raise UsageError("an empty grid (grid=[]) leaves nothing to calibrate; name signals, or give 'small'")
    else:
        asked = build_signals(list(grid))
        if aimless := [column for column, signal in asked.items() if signal.good is None]:
            raise UsageError(f"{aimless[0]!r} has no end at which good samples are expected; leave it out of the grid")
        for name in ("answer_loss", "random"):  # what every setting is held against
            if asked.setdefault(name, build_signals([name])[name]).name != name:
                raise UsageError(f"the column {name!r} is kept for the signal of that name; give yours another")
    found: dict[str, Candidate] = {}
    controls: dict[Masking | None, str] = {}  # a random masking -> its column
    for column, signal in asked.items():
        if not isinstance(signal, DeltaAttnMask) or signal.choose != "top":
            found[column] = _candidate(column, signal, depth, "control" if _masking(signal) else "signal")
            continue
        # random tokens do not ask whose attention would have ranked them: one control serves all rows and heads
        twin = replace(signal, choose="random", rows="answer", heads="mean")
        control = controls.setdefault(_masking(twin), f"random_of_{column}")
        found[column] = _candidate(column, signal, depth, "delta", control)
        found.setdefault(control, _candidate(control, twin, depth, "control"))
    return list(found.values())


def default_column(found: Sequence[Candidate], depth: int) -> str | None:
    """The column that measures what `delta_attnmask` does by default; None where the grid is without it."""
    settings = {one.column: build_signals([f"x={one.word}"])["x"] for one in found if one.family == "delta"}
    shipped = _at_layer(DeltaAttnMask(), depth)
    return next((column for column, signal in settings.items() if _at_layer(signal, depth) == shipped), None)


def _at_layer(signal: Any, depth: int) -> Any:
    return replace(signal, depth=signal.layer(depth))  # two depths may mean one layer


def _words(size: Size, depth: int) -> list[str]:
    """The grid's words; of several depths that are one layer in this model, the first."""
    layers = sorted({int(fraction * depth): fraction for fraction in reversed(size.depths)}.items())
    return [
        f"delta_{layer}_{round(100 * ratio)}_{eligible}_{rows}=delta_attnmask:"
        f"depth={-1 if fraction == 0.999 else fraction},ratio={ratio},eligible={eligible},rows={rows}"
        for (layer, fraction), ratio, eligible, rows in product(layers, size.ratios, size.eligible, size.rows)
    ]


def _candidate(column: str, signal: Signal, depth: int, family: str, control: str = "") -> Candidate:
    setting: tuple[tuple[str, Any], ...] = ()
    if (masking := _masking(signal)) is not None:
        shown = [(name, getattr(masking, name)) for name in ("ratio", "eligible", "rows")]
        setting = (("depth", masking.layer(depth)), *shown)
    assert signal.good is not None
    return Candidate(column, signal_word(signal), family, signal.good, forwards([signal], depth), control, setting)


def _masking(signal: Signal) -> Masking | None:
    return next((need.masking for need in signal.needs if isinstance(need, MaskedLoss)), None)
