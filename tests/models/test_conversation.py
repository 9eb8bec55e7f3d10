"""Turns -> text and answer spans, with templates written as plain functions: each habit of a template on its own."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from vlmsift.errors import SampleError
from vlmsift.models.conversation import Rendered, render, to_messages
from vlmsift.types import Turn

Messages = list[dict[str, Any]]


def speaking(template: Callable[[Messages], str], *special: str) -> Any:
    """A processor with that template, whose tokenizer knows these special tokens (and a plain added one)."""
    tokens = [*((text, True) for text in ("<end>", *special)), ("<plain>", False)]
    decoder = {number: SimpleNamespace(content=text, special=flag) for number, (text, flag) in enumerate(tokens)}
    return SimpleNamespace(
        apply_chat_template=lambda messages, tokenize: template(messages),
        tokenizer=SimpleNamespace(added_tokens_decoder=decoder, all_special_tokens=["<end>"]),
    )


def words(message: dict[str, Any]) -> str:
    return "".join(part.get("text", "[image]") for part in message["content"])


def simple(messages: Messages, end: str = "<end>\n", change: Callable[[str], str] = str) -> str:
    return "".join(
        f"{message['role']}: {change(words(message)) if message['role'] == 'assistant' else words(message)}{end}"
        for message in messages
    )


def chat(*texts: str) -> list[Turn]:
    return [Turn("assistant" if number % 2 else "user", text) for number, text in enumerate(texts)]


def spans(rendered: Rendered) -> list[str]:
    return [rendered.text[start:end] for start, end in rendered.spans]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("no image", ["no image"]),
        ("<image>\nwhat?", [None, "what?"]),
        ("what?\n<image>", ["what?", None]),
        ("<image><image>\n\nwhat", [None, None, "\nwhat"]),
        ("a <image> b", ["a ", None, " b"]),
        ("<image>", [None]),
        ("", [""]),
    ],
)
def test_marks_become_image_parts_and_take_one_line_break(text, parts):
    expected = [{"type": "image"} if part is None else {"type": "text", "text": part} for part in parts]
    assert to_messages([Turn("user", text)]) == [{"role": "user", "content": expected}]


@pytest.mark.parametrize(
    "answer",
    ["yes", "why", "user", "(.*)+[a]$^\\1", "{{ x }}", "", "<plain>", "two\n\nlines", "  spaced  ", "<end>", "é🎉"],
)
def test_spans_hold_answer_and_end_token(answer):
    rendered = render(speaking(simple), chat("why", answer, "user: yes", "no"))
    assert spans(rendered) == [f"{answer}<end>", "no<end>"]
    assert rendered.text == simple(to_messages(chat("why", answer, "user: yes", "no")))


def test_white_space_before_the_end_token_belongs_to_it():
    rendered = render(speaking(lambda messages: simple(messages, " \n<end>")), chat("a", "b"))
    assert spans(rendered) == ["b \n<end>"]


@pytest.mark.parametrize("end", ["", "\n", "<plain>"])
def test_a_template_without_end_token_supervises_the_answer_alone(end):
    assert spans(render(speaking(lambda messages: simple(messages, end)), chat("a", "b", "c", "d"))) == ["b", "d"]


@pytest.mark.parametrize("end", ["[end]", "<|end|>", "(/e)+"])
def test_special_tokens_are_taken_literally(end):
    assert spans(render(speaking(lambda messages: simple(messages, end), end), chat("a", "b"))) == [f"b{end}"]


def test_the_longest_special_token_is_the_end():
    processor = speaking(lambda messages: simple(messages, "<end><end>"), "<end><end>")
    assert spans(render(processor, chat("a", "b"))) == ["b<end><end>"]


def test_a_template_may_trim_the_answers():
    rendered = render(speaking(lambda messages: simple(messages, change=str.strip)), chat("a", "  b\n", "c", " d"))
    assert spans(rendered) == ["b<end>", "d<end>"]


def test_a_template_may_open_the_last_answer_otherwise():
    def thinking(messages: Messages) -> str:
        *earlier, last = messages
        return simple(earlier) + "assistant: <think></think>" + words(last) + "<end>"

    assert spans(render(speaking(thinking), chat("a", "b", "c", "d"))) == ["b<end>", "d<end>"]


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (
            lambda messages: simple(messages, change=lambda text: text.replace("b", "c")),
            "answer not located: the chat template rewrites 'b b'",
        ),
        (
            lambda messages: simple(messages, change=lambda text: text[:1]),
            "answer not located: the chat template drops",
        ),
        (lambda messages: simple(messages[:1]), "answer not located: the chat template drops an assistant turn"),
        (
            lambda messages: f"{len(words(messages[1]))} letters. {simple(messages)}",
            "answer not located: .* the prompt",
        ),
        (lambda messages: messages[7]["content"], "refused by the chat template: list index out of range"),
    ],
    ids=["rewrites", "cuts", "drops", "prompt", "raises"],
)
def test_a_template_that_hides_the_answer_refuses_the_sample(template, reason):
    with pytest.raises(SampleError, match=f"^{reason}"):
        render(speaking(template), chat("a", "b b"))
