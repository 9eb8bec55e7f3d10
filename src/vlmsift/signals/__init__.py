"""The table of signals. Adding one: a short file beside this one, and a line in `SIGNALS`.

On the command line a signal is `NAME`, `NAME:field=value,field=value`, or `COLUMN=NAME:field=value` to give the column
a name of its own, so that several settings of one signal can stand side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from vlmsift.errors import UsageError
from vlmsift.parameters import parse_fields, write_word
from vlmsift.signals.answer_loss import AnswerLoss
from vlmsift.signals.answer_tokens import AnswerTokens
from vlmsift.signals.attention_influence import AttentionInfluence
from vlmsift.signals.concept_states import ConceptStates
from vlmsift.signals.delta_attnmask import DeltaAttnMask
from vlmsift.signals.el2n import El2n
from vlmsift.signals.entropy import Entropy
from vlmsift.signals.entropy_profile import EntropyProfile
from vlmsift.signals.hidden_mean import HiddenMean
from vlmsift.signals.ifd import Ifd
from vlmsift.signals.image_attention import ImageAttention
from vlmsift.signals.image_entropy import ImageEntropy
from vlmsift.signals.image_gain import ImageGain
from vlmsift.signals.image_spectrum import ImageSpectrum
from vlmsift.signals.last_state import LastState
from vlmsift.signals.random import Random
from vlmsift.signals.surprise import Surprise
from vlmsift.types import Signal

SIGNALS: dict[str, Any] = {
    "delta_attnmask": DeltaAttnMask,
    "delta_random": partial(DeltaAttnMask, choose="random"),
    "delta_bottom": partial(DeltaAttnMask, choose="bottom"),
    "answer_loss": AnswerLoss,
    "answer_tokens": AnswerTokens,
    "attention_influence": AttentionInfluence,
    "concept_states": ConceptStates,
    "el2n": El2n,
    "entropy": Entropy,
    "entropy_profile": EntropyProfile,
    "hidden_mean": HiddenMean,
    "ifd": Ifd,
    "image_attention": ImageAttention,
    "image_entropy": ImageEntropy,
    "image_gain": ImageGain,
    "image_spectrum": ImageSpectrum,
    "last_state": LastState,
    "random": Random,
    "surprise": Surprise,
}
"""Command-line word and default column -> signal. Two lines are controls of Delta-AttnMask, not signals themselves."""

DEFAULT_SIGNALS = (
    "delta_attnmask",
    "answer_loss",
    "answer_tokens",
    "entropy",
    "surprise",
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
        entry = SIGNALS[name]
        cls = entry.func if isinstance(entry, partial) else entry
        signals[column] = entry(**parse_fields(cls, name, fields))
    return signals


def forwards(signals: Iterable[Signal], depth: int) -> float:
    """Text forwards per sample that these signals cost together, in a decoder of L = `depth` layers.

    One first pass, and what each need costs beyond it, once; lengths and draws alone cost none. The passes that find a
    signal's heads before the first sample are not counted.
    """
    needs = dict.fromkeys(need for signal in signals for need in signal.needs)
    return 1.0 + sum(need.cost(depth) for need in needs) if needs else 0.0


def signal_word(signal: Signal) -> str:
    """The word that builds this signal of the table, with the fields that differ from their defaults; no column."""
    if type(signal) is not SIGNALS.get(signal.name):
        raise UsageError(f"the signal {signal.name!r} cannot be asked for by a word")
    return write_word(signal.name, signal, SIGNALS[signal.name]())
