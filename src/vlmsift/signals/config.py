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

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlmsift.errors import UsageError
from vlmsift.signals import build_signals
from vlmsift.signals.calibrated import Calibrated, Part
from vlmsift.types import Signal

KEYS = ("signals", "calibrated", "select", "made_by")
SELECT_KEYS = ("by", "pick", "balance", "keep")
CALIBRATED = Calibrated.name


@dataclass(frozen=True)
class Config:
    """What a config file asks for: column -> signal, and arguments for `select` (by, pick, balance, keep)."""

    signals: dict[str, Signal]
    select: dict[str, Any] = field(default_factory=dict)


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
    if not isinstance(content, Mapping):
        raise UsageError(f"the config {path} holds {_short(content)}, not keys such as signals: and select:")
    if unknown := [key for key in content if key not in KEYS]:
        raise UsageError(f"the config {path} has the key {unknown[0]!r}; it may have {', '.join(KEYS)}")
    try:
        return _config(content)
    except UsageError as error:
        raise UsageError(f"the config {path}: {error}") from error


def _config(content: Mapping[str, Any]) -> Config:
    words = content.get("signals")
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise UsageError(f"signals: {_short(words)} is not a list of signals, such as [delta_attnmask, answer_loss]")
    signals = build_signals(words)
    if "calibrated" in content:
        if CALIBRATED in signals:
            raise UsageError(f"signals: {CALIBRATED!r} is already the column of the key calibrated:")
        signals[CALIBRATED] = build_calibrated(content["calibrated"])
    select = content.get("select", {})
    if not isinstance(select, Mapping) or (unknown := [key for key in select if key not in SELECT_KEYS]):
        shown = repr(unknown[0]) if isinstance(select, Mapping) else _short(select)
        raise UsageError(f"select: {shown} is unknown; give {', '.join(SELECT_KEYS)}")
    if select.get("by", next(iter(signals))) not in signals:
        raise UsageError(f"select: by={select['by']!r} is no column of this config; it has {', '.join(signals)}")
    return Config(signals, dict(select))


def build_calibrated(value: Any) -> Calibrated:
    """The signal `calibrated` from its entry in a config: `intercept` and `parts`. Raises UsageError."""
    if not isinstance(value, Mapping) or set(value) != {"intercept", "parts"}:
        raise UsageError(f"calibrated: {_short(value)} does not have the keys intercept and parts, and no others")
    entries = value["parts"]
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"calibrated: parts: {_short(entries)} is not a list of at least one signal")
    parts = []
    for entry in entries:
        if not isinstance(entry, Mapping) or {*entry, "log"} != {"signal", "log", "mean", "scale", "weight"}:
            raise UsageError(
                f"calibrated: {_short(entry)} does not have the keys signal, mean, scale, weight (and log)"
            )
        word = entry["signal"]
        if not isinstance(word, str):
            raise UsageError(f"calibrated: signal: {_short(word)} is not a signal, such as answer_loss")
        (signal,) = build_signals([word]).values()
        if hasattr(signal, "width"):
            raise UsageError(f"calibrated: signal: {word!r} is a vector and cannot be weighed")
        mean, scale, weight = (_number(f"{key} of {word}", entry[key]) for key in ("mean", "scale", "weight"))
        if scale <= 0:
            raise UsageError(f"calibrated: scale of {word}: {scale!r} is not above 0")
        log = entry.get("log", False)
        if not isinstance(log, bool):
            raise UsageError(f"calibrated: log of {word}: {_short(log)} is neither true nor false")
        parts.append(Part(word, signal, mean, scale, weight, log))
    return Calibrated(tuple(parts), _number("intercept", value["intercept"]))


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UsageError(f"calibrated: {name}: {_short(value)} is not a number")
    return float(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
