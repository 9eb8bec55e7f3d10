"""ShareGPT rows: both spellings, what is refused, and that writing reads back."""

from __future__ import annotations

from typing import Any

import pytest

from vlmsift.errors import SampleError
from vlmsift.pools import sharegpt
from vlmsift.types import Turn


@pytest.mark.parametrize(
    ("row", "turns", "images"),
    [
        (
            {"messages": [{"role": "user", "content": "<image>q"}], "images": ["a.png"]},
            (Turn("user", "<image>q"),),
            ("a.png",),
        ),
        (
            {
                "conversations": [
                    {"from": "human", "value": "<image>q"},
                    {"from": "function_call", "value": "f()"},
                    {"from": "observation", "value": "<image>"},
                    {"from": "gpt", "value": "a"},
                ],
                "images": ["a.png", "b.png"],
                "system": "s",
                "tools": "[]",
            },
            (
                Turn("system", "s"),
                Turn("user", "<image>q"),
                Turn("assistant", "f()"),
                Turn("user", "<image>"),
                Turn("assistant", "a"),
            ),
            ("a.png", "b.png"),
        ),
        (
            {"conversations": [{"from": "human", "value": "q"}], "images": [], "system": ""},
            (Turn("user", "q"),),
            (),
        ),
    ],
)
def test_rows_are_read(row: dict[str, Any], turns: tuple[Turn, ...], images: tuple[str, ...]) -> None:
    assert sharegpt.matches(row)
    assert sharegpt.read(row) == (turns, images)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": [{"role": "user", "content": "q"}], "images": ["a.png"]}, "0 <image> marks but 1 images"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}], "images": ["a.png"]}, "must be a string"),
        ({"messages": [], "images": ["a.png"]}, "no turns"),
        ({"images": ["a.png"]}, "no turns"),
        ({"conversations": [{"from": "human", "value": "<video>"}], "videos": ["a.mp4"]}, "videos are not"),
    ],
)
def test_rows_are_refused(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(SampleError, match=reason):
        sharegpt.read(row)


def test_other_formats_do_not_match() -> None:
    turns = [{"from": "human", "value": "<image>"}]
    assert not sharegpt.matches({"conversations": turns, "image": "a.png"})
    assert not sharegpt.matches({"conversations": turns, "image": "a.png", "images": []})
    assert not sharegpt.matches({"messages": [{"role": "user", "content": "q"}]})
    assert not sharegpt.matches({"messages": [{"role": "user", "content": [{"type": "image"}]}], "images": ["a.png"]})
    assert not sharegpt.matches({"images": ["a.png"]})


@pytest.mark.parametrize("images", [(), ("a.png",), ("a.png", "b.png")])
def test_writing_reads_back(images: tuple[str, ...]) -> None:
    turns = (Turn("system", "s"), Turn("user", "<image>" * len(images)), Turn("assistant", ""))
    written = sharegpt.write(turns, images)
    assert sharegpt.matches(written)
    assert sharegpt.read(written) == (turns, images)
