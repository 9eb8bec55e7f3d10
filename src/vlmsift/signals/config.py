"""A calibration's config as signals. In: a YAML file. Out: column -> signal, and how to select by them.

signals:            # words as on the command line
  - delta_attnmask:depth=0.25,ratio=0.5
calibrated:         # optional: weights of the signal `calibrated`
  intercept: 0.1
  parts:
    - {signal: answer_loss, log: true, mean: 1.2, scale: 0.8, weight: -0.9}
select:             # optional: arguments of `select`
  by: delta_attnmask
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from vlmsift.errors import UsageError
from vlmsift.parameters import Parameters, Positive, make
from vlmsift.signals import build_signals
from vlmsift.signals.calibrated import Calibrated, Part
from vlmsift.types import Signal

CALIBRATED = Calibrated.name
Finite = Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)]


@dataclass(frozen=True)
class Config:
    """What a config file asks for: column -> signal, and arguments for `select` (by, pick, balance, keep)."""

    signals: dict[str, Signal]
    select: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _File(Parameters):
    """The keys of the file."""

    signals: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    calibrated: Any = None
    select: Any = field(default_factory=dict)
    made_by: Any = None

    name = "keys"


@dataclass(frozen=True)
class _Select(Parameters):
    by: str | None = None
    pick: str | None = None
    balance: str | None = None
    keep: str | float | None = None

    name = "select"


@dataclass(frozen=True)
class _Calibrated(Parameters):
    intercept: Finite
    parts: Any

    name = CALIBRATED


@dataclass(frozen=True)
class _Part(Parameters):
    signal: str
    mean: Finite
    scale: Positive
    weight: Finite
    log: bool = False

    name = "a part of calibrated"


def load_config(path: str | Path) -> Config:
    """Read and check a config file.

    Raises:
        UsageError: the file cannot be read, or a value in it cannot be meant; the message quotes it.
    """
    import yaml

    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"the config {path} cannot be read ({error.strerror}); give a file as calibrate writes it"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"the config {path} is not YAML: {' '.join(str(error).split())}") from error
    try:
        return _config(make(_File, "keys", content))
    except UsageError as error:
        raise UsageError(f"the config {path}: {error}") from error


def _config(file: _File) -> Config:
    signals = build_signals(file.signals)
    if file.calibrated is not None:
        if CALIBRATED in signals:
            raise UsageError(f"signals: {CALIBRATED!r} is already the column of the key calibrated:")
        signals[CALIBRATED] = build_calibrated(file.calibrated)
    by = make(_Select, "select", file.select).by
    if by is not None and by not in signals:
        raise UsageError(f"select: by={by!r} is no column of this config; it has {', '.join(signals)}")
    return Config(signals, dict(file.select))


def build_calibrated(value: Any) -> Calibrated:
    """The signal `calibrated` from its entry in a config: `intercept` and `parts`. Raises UsageError."""
    made = make(_Calibrated, CALIBRATED, value)
    if not isinstance(made.parts, list) or not made.parts:
        raise UsageError(f"calibrated: parts={made.parts!r} cannot be meant; give a list of at least one signal")
    return Calibrated(tuple(_part(make(_Part, _Part.name, entry)) for entry in made.parts), made.intercept)


def _part(entry: _Part) -> Part:
    (signal,) = build_signals([entry.signal]).values()
    if signal.is_vector:
        raise UsageError(f"calibrated: {entry.signal!r} is a vector and cannot be weighed")
    return Part(entry.signal, signal, entry.mean, entry.scale, entry.weight, entry.log)
