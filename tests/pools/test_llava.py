"""LLaVA rows: what is read, what is refused, and that writing reads back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.pools.helpers import png
from vlmsift.errors import SampleError
from vlmsift.pools import llava
from vlmsift.types import Turn


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("row", "images"),
    [
        ({"image": "a.png", "conversations": turns("<image>\nq", "a")}, ("a.png",)),
        ({"image": ["a.png", "b.png"], "conversations": turns("<image><image>", "a")}, ("a.png", "b.png")),
        ({"image": {"bytes": png(), "path": None}, "conversations": turns("q <image>", "a")}, (png(),)),
        ({"image": None, "images": ["a.png"], "conversations": turns("q", "a", "<image>", "b")}, ("a.png",)),
        ({"image": "", "conversations": turns("q", "a")}, ()),
        ({"conversations": turns("q", "a")}, ()),
        ({"conversations": turns("q", "a")[::-1]}, ()),
        ({"conversations": turns("q", "a")[:1] * 2}, ()),
    ],
)
def test_rows_are_read(row: dict[str, Any], images: tuple[str | bytes, ...]) -> None:
    read = llava.read(row)
    assert read[1] == images
    assert [turn.text for turn in read[0]] == [turn["value"] for turn in row["conversations"]]
    assert llava.matches(row) == (row.get("image") is not None or "images" not in row)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"image": "a.png", "conversations": turns("q", "a")}, "0 <image> marks but 1 images"),
        ({"conversations": turns("<image> <image>", "a")}, "2 <image> marks but 0 images"),
        ({"image": "a.png", "conversations": []}, "no turns"),
        ({"image": "a.png"}, "no turns"),
        ({"video": "a.mp4", "conversations": turns("<video>", "a")}, "videos are not supported yet"),
        ({"conversations": [{"from": "human"}]}, "must be a string"),
        ({"conversations": [{"from": "bot", "value": "x"}]}, "unknown role 'bot'"),
    ],
)
def test_rows_are_refused(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(SampleError, match=reason):
        llava.read(row)


@pytest.mark.parametrize("images", [(), ("a.png",), ("a.png", "b.png")])
def test_writing_reads_back(images: tuple[str, ...]) -> None:
    said = (Turn("system", "s"), Turn("user", "<image>" * len(images)), Turn("assistant", ""))
    assert llava.read(llava.write(said, images)) == (said, images)
