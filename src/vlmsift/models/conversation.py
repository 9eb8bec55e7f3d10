"""Turns -> the text a model was trained on, and where in it the answers stand.

In: a sample's turns and a processor with a chat template. Out: the rendered text and the character spans of every
assistant turn, its end-of-turn token included. The template is rendered a second time with sentinels in the answers'
places; what surrounds them is the template's own text, so no constant of any template is ever assumed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vlmsift.errors import SampleError
from vlmsift.types import IMAGE_MARK, Turn

_SENTINEL = "sifted{}answer"


@dataclass(frozen=True, slots=True)
class Rendered:
    """The template's text, and where its answers stand."""

    text: str
    spans: tuple[tuple[int, int], ...]  # of each assistant turn with its end token: first character, one past the last


def to_messages(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Turns as chat messages with content parts; each image mark becomes an image part.

    The one line break that data sets put between an image mark and the text belongs to the mark, and goes with it.
    """
    messages = []
    for turn in turns:
        parts: list[dict[str, str]] = []
        pieces = turn.text.split(IMAGE_MARK)
        for number, piece in enumerate(pieces):
            if number:
                parts.append({"type": "image"})
                piece = piece.removeprefix("\n")
            if number < len(pieces) - 1:
                piece = piece.removesuffix("\n")
            if piece:
                parts.append({"type": "text", "text": piece})
        messages.append({"role": turn.role, "content": parts or [{"type": "text", "text": ""}]})
    return messages


def render(processor: Any, turns: Sequence[Turn]) -> Rendered:
    """Render the conversation and find its answers.

    Raises SampleError where the template refuses it, or rewrites the answers so that they cannot be found.
    """
    answers = [turn.text for turn in turns if turn.role == "assistant"]
    marked: list[Turn] = []
    for turn in turns:
        number = sum(other.role == "assistant" for other in marked)
        marked.append(Turn(turn.role, _SENTINEL.format(number)) if turn.role == "assistant" else turn)
    try:
        text = processor.apply_chat_template(to_messages(turns), tokenize=False)
        frame = processor.apply_chat_template(to_messages(marked), tokenize=False)
    except Exception as error:  # templates raise whatever their authors wrote
        raise SampleError("refused by the chat template", f"{error}") from error
    around = _split_frame(frame, len(answers))
    specials = _special_pattern(processor.tokenizer)
    spans, position = [], len(around[0])
    if not text.startswith(around[0]):
        raise SampleError("answer not located", "the chat template changes the prompt with the answer")
    for answer, after in zip(answers, around[1:], strict=True):
        length = next((len(form) for form in (answer, answer.strip()) if text.startswith(form + after, position)), None)
        if length is None:
            raise SampleError("answer not located", f"the chat template rewrites {answer[:60]!r}")
        end = specials.match(after)  # the end-of-turn token, if the template writes one
        spans.append((position, position + length + (end.end() if end else 0)))
        position += length + len(after)  # in characters
    return Rendered(text, tuple(spans))


def _split_frame(frame: str, count: int) -> list[str]:
    """The template's own text before, between and after the answers: `count + 1` pieces."""
    pieces, rest = [], frame
    for number in range(count):
        before, found, rest = rest.partition(_SENTINEL.format(number))
        if not found:
            raise SampleError("answer not located", "the chat template drops an assistant turn")
        pieces.append(before)
    return [*pieces, rest]


def _special_pattern(tokenizer: Any) -> re.Pattern[str]:
    """Matches one special token at the start of a text, after optional white space."""
    tokens = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    longest_first = sorted(tokens | set(tokenizer.all_special_tokens), key=len, reverse=True)
    return re.compile(r"\s*(?:" + "|".join(map(re.escape, longest_first)) + ")")
