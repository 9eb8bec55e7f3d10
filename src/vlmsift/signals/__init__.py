"""The table of signals. Adding one: a short file beside this one, and a line in `SIGNALS`.

On the command line a signal is `NAME`, `NAME:field=value,field=value`, or `COLUMN=NAME:field=value` to give the column
a name of its own, so that several settings of one signal can stand side by side.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, get_args, get_type_hints

from vlmsift.errors import UsageError
from vlmsift.signals.answer_loss import AnswerLoss
from vlmsift.signals.answer_tokens import AnswerTokens
from vlmsift.signals.delta_attnmask import DeltaAttnMask
from vlmsift.signals.el2n import El2n
from vlmsift.signals.hidden_mean import HiddenMean
from vlmsift.signals.image_attention import ImageAttention
from vlmsift.signals.image_entropy import ImageEntropy
from vlmsift.signals.image_gain import ImageGain
from vlmsift.signals.random import Random
from vlmsift.types import Signal

SIGNALS: dict[str, Any] = {
    "delta_attnmask": DeltaAttnMask,
    "delta_random": partial(DeltaAttnMask, choose="random"),
    "delta_bottom": partial(DeltaAttnMask, choose="bottom"),
    "answer_loss": AnswerLoss,
    "answer_tokens": AnswerTokens,
    "el2n": El2n,
    "hidden_mean": HiddenMean,
    "image_attention": ImageAttention,
    "image_entropy": ImageEntropy,
    "image_gain": ImageGain,
    "random": Random,
}
"""Command-line word and default column -> signal. Two lines are controls of Delta-AttnMask, not signals themselves."""

DEFAULT_SIGNALS = (
    "delta_attnmask",
    "answer_loss",
    "answer_tokens",
    "el2n",
    "image_attention",
    "image_entropy",
    "hidden_mean",
    "random",
)
"""What `score` measures unless told otherwise: all that the two passes of Delta-AttnMask give at once."""


def build_signals(words: Sequence[str]) -> dict[str, Signal]:
    """Column -> signal, from command-line words.

    Raises:
        UsageError: an unknown signal or field, a value of the wrong kind, or a column given twice.
    """
    signals: dict[str, Signal] = {}
    for word in words:
        head, _, fields = word.partition(":")
        column, equals, name = head.partition("=")
        name = name if equals else column
        if name not in SIGNALS:
            raise UsageError(f"there is no signal {name!r}; choose among {', '.join(SIGNALS)}")
        if not column.isidentifier():
            raise UsageError(f"{column!r} cannot be a column's name; use letters, digits and _")
        if column in signals:
            raise UsageError(f"column {column!r} is asked for twice; name one of them, as in other={word}")
        signals[column] = SIGNALS[name](**_fields(SIGNALS[name], name, fields))
    return signals


def parameters(signal: Signal) -> dict[str, Any]:
    """Every field of a signal with its value: what a run records."""
    return dataclasses.asdict(signal)  # type: ignore[call-overload, no-any-return]


def _fields(entry: Any, name: str, text: str) -> dict[str, Any]:
    cls: Any = entry.func if isinstance(entry, partial) else entry
    known = {field.name for field in dataclasses.fields(cls)}
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        field, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or field not in known:
            raise UsageError(
                f"{name} has no field {field!r} (in {part!r}); it has {', '.join(sorted(known)) or 'none'}"
            )
        values[field] = _value(name, field, value, hints[field])
    return values


def _value(name: str, field: str, text: str, hint: Any) -> Any:
    choices = get_args(hint)
    if choices and all(isinstance(choice, str) for choice in choices):
        if text not in choices:
            raise UsageError(f"{name}: {field}={text!r} is not one of {', '.join(choices)}")
        return text
    if hint is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    kinds = choices or (hint,)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = None
    if float in kinds and int not in kinds and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) not in kinds:
        raise UsageError(f"{name}: {field}={text!r} is not {' or '.join(kind.__name__ for kind in kinds)}")
    return value
