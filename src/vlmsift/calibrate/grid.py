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

PLAIN = ("answer_loss", "answer_tokens", "el2n", "image_attention", "image_entropy", "image_gain", "random")
"""The house's cheap scalar signals beside Delta-AttnMask."""
DEAR = ("ifd", "image_spectrum")
"""Those that the full grid adds. `attention_influence` needs heads, so it is measured only where asked for."""
VECTOR = "hidden_mean"
"""Measured as well, because balanced selections may cluster by it; not a candidate."""


@dataclass(frozen=True)
class Size:
    """A grid of Delta-AttnMask settings. Depths are fractions of L; 0.999 is the last layer's input."""

    depths: tuple[float, ...]
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
    """A signal with one setting.

    Attributes:
        column: its name in the run. word: what builds it, without the column.
        family: "delta", "control" (a masking of random or least attended tokens) or "signal".
        good: the end at which good samples are expected, "highest" or "lowest".
        forwards: text forwards per sample that it costs alone, see `signals.forwards`.
        control: the column of its random control, "" where it has none.
        setting: depth (layer index), ratio, eligible and rows of a masking; empty otherwise.
    """

    column: str
    word: str
    family: str
    good: str
    forwards: float
    control: str = ""
    setting: tuple[tuple[str, Any], ...] = ()


def candidates(grid: str | Sequence[str], depth: int) -> list[Candidate]:
    """The candidates of a grid, for a model of L = `depth` layers; settings that mean the same layer come once.

    Args:
        grid: "small", "full", or words as on the command line ("late=delta_attnmask:depth=-1"), which are taken as they
            are, with the loss, `random` and a random control for each delta setting added.

    Raises:
        UsageError: an unknown size, or a word that cannot be meant.
    """
    if isinstance(grid, str):
        if grid not in SIZES:
            raise UsageError(f"there is no grid {grid!r}; give {' or '.join(SIZES)}, or a list of signals")
        dear = DEAR if grid == "full" else ()
        asked = build_signals([*PLAIN, *dear, *_words(SIZES[grid], depth)])
    else:
        if not grid:
            raise UsageError("an empty grid (grid=[]) leaves nothing to calibrate; name signals, or give 'small'")
        asked = build_signals(list(grid))
        if aimless := [column for column, signal in asked.items() if signal.good is None]:
            raise UsageError(f"{aimless[0]!r} has no end at which good samples are expected; leave it out of the grid")
        for name in ("answer_loss", "random"):  # what every setting is held against
            if asked.setdefault(name, build_signals([name])[name]).name != name:
                raise UsageError(f"the column {name!r} is kept for the signal of that name; give yours another")
    found: dict[str, Candidate] = {}
    controls: dict[Masking, str] = {}
    for column, signal in asked.items():
        if not isinstance(signal, DeltaAttnMask) or signal.choose != "top":
            found[column] = _candidate(column, signal, depth, "control" if _masking(signal) else "signal")
            continue
        # random tokens do not ask whose attention would have ranked them: one control serves all rows and heads
        twin = _changed(signal, choose="random", rows="answer", heads="mean")
        key = _masking(twin)
        assert key is not None
        if key not in controls:
            controls[key] = f"random_of_{column}"
        found[column] = _candidate(column, signal, depth, "delta", controls[key])
        found.setdefault(controls[key], _candidate(controls[key], twin, depth, "control"))
    return list(found.values())


def default_column(found: Sequence[Candidate], depth: int) -> str | None:
    """The column that measures what `delta_attnmask` does by default; None where the grid is without it."""
    shipped = _candidate("", DeltaAttnMask(), depth, "delta")
    return next((one.column for one in found if one.family == "delta" and _same(one, shipped, depth)), None)


def _same(one: Candidate, other: Candidate, depth: int) -> bool:
    def facts(candidate: Candidate) -> Any:
        signal = build_signals([f"x={candidate.word}"])["x"]
        assert isinstance(signal, DeltaAttnMask)
        return _changed(signal, depth=signal.layer(depth))

    return bool(facts(one) == facts(other))


def _words(size: Size, depth: int) -> list[str]:
    """The grid's words; of several depths that are one layer in this model, the first."""
    layers: dict[int, float] = {}
    for fraction in size.depths:
        layers.setdefault(int(fraction * depth), fraction)
    return [
        f"delta_{layer}_{round(100 * ratio)}_{eligible}_{rows}=delta_attnmask:"
        f"depth={-1 if fraction == 0.999 else fraction},ratio={ratio},eligible={eligible},rows={rows}"
        for (layer, fraction), ratio, eligible, rows in product(layers.items(), size.ratios, size.eligible, size.rows)
    ]


def _candidate(column: str, signal: Signal, depth: int, family: str, control: str = "") -> Candidate:
    masking, setting = _masking(signal), {}
    if masking is not None:
        setting = {"depth": masking.layer(depth), **{name: getattr(masking, name) for name in _SHOWN}}
    assert signal.good is not None
    cost = forwards([signal], depth)
    return Candidate(column, signal_word(signal), family, signal.good, cost, control, tuple(setting.items()))


_SHOWN = ("ratio", "eligible", "rows")


def _masking(signal: Signal) -> Masking | None:
    return next((need.masking for need in signal.needs if isinstance(need, MaskedLoss)), None)


def _changed(signal: DeltaAttnMask, **fields: Any) -> DeltaAttnMask:
    return replace(signal, **fields)
