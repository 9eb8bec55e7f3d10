"""Chat messages: TRL's and Qwen's spellings, what is refused, and that writing reads back."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.pools.helpers import png
from vlmsift.errors import SampleError
from vlmsift.pools import messages
from vlmsift.types import Turn

IMAGE = {"type": "image"}
URL = "data:image/png;base64," + base64.b64encode(png()).decode()


def text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def row(*content: Any, **extra: Any) -> dict[str, Any]:
    """One user turn with these parts (or this string), then an answer."""
    asked = content[0] if isinstance(content[0], str) else list(content)
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": "yes"}], **extra}


@pytest.mark.parametrize(
    ("record", "asked", "images"),
    [
        (row("q"), "q", ()),
        (row(text("q")), "q", ()),
        (row(text("a"), text("b")), "ab", ()),
        # TRL: images from the column, in order, or by index
        (row(IMAGE, text("q"), images=["a.png"]), "<image>q", ("a.png",)),
        (
            row(text("q "), IMAGE, text(" or "), IMAGE, images=["a.png", "b.png"]),
            "q <image> or <image>",
            ("a.png", "b.png"),
        ),
        (
            row({**IMAGE, "index": 1}, {**IMAGE, "index": 0}, images=["a.png", "b.png"]),
            "<image><image>",
            ("b.png", "a.png"),
        ),
        (row({**IMAGE, "text": None}, {**text("q"), "image": None}, images=[{"bytes": png()}]), "<image>q", (png(),)),
        (row(IMAGE, text("q"), image="a.png"), "<image>q", ("a.png",)),
        # TRL: plain texts without marks
        (row("q", images=["a.png", "b.png"]), "<image><image>q", ("a.png", "b.png")),
        # LLaMA-Factory's marks
        (row("q <image>", images=["a.png"]), "q <image>", ("a.png",)),
        # Qwen and others: the part holds its image
        (row({**IMAGE, "image": "a.png"}, text("q")), "<image>q", ("a.png",)),
        (row({"image": "a.png"}, {"text": "q"}), "<image>q", ("a.png",)),
        (row({**IMAGE, "image": "file:///x/a.png"}), "<image>", ("/x/a.png",)),
        (row({**IMAGE, "path": "a.png"}, {**IMAGE, "url": URL}), "<image><image>", ("a.png", png())),
        (row({**IMAGE, "bytes": png()}), "<image>", (png(),)),
        (row({**IMAGE, "base64": base64.b64encode(png()).decode()}), "<image>", (png(),)),
        (row({"type": "image_url", "image_url": {"url": URL}}, text("q")), "<image>q", (png(),)),
        (row({"type": "image_url", "image_url": "a.png"}), "<image>", ("a.png",)),
    ],
)
def test_rows_are_read(record: dict[str, Any], asked: str, images: tuple[str | bytes, ...]) -> None:
    assert messages.read(record) == ((Turn("user", asked), Turn("assistant", "yes")), images)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (row(IMAGE, text("q")), "asks for image 0, but the row has 0 images"),
        (row({**IMAGE, "index": 5}, images=["a.png"]), "asks for image 5"),
        (row({**IMAGE, "index": -1}, images=["a.png"]), "asks for image -1"),
        (row(IMAGE, images=["a.png", "b.png"]), "has 2 images, but its messages use 1"),
        (row({**IMAGE, "image": "c.png"}, images=["a.png"]), "has 1 images, but its messages use 0"),
        (row(text("a <image> mark")), "1 <image> marks but 0 images"),
        (row("<image> <image>", images=["a.png"]), "2 <image> marks but 1 images"),
        (row({**IMAGE, "image": "http://x.org/a.png"}), "opens no network"),
        (row({"type": "video", "video": "a.mp4"}), "videos are not supported yet"),
        (row({"type": "video"}, videos=["a.mp4"]), "videos are not supported yet"),
        (row({"type": "video_url", "video_url": {"url": "a.mp4"}}), "videos are not supported yet"),
        (row({"type": "tool_use"}), "neither text nor image"),
        (row({"type": "text", "text": None}), "neither text nor image"),
        (row("q", video="x"), "videos are not supported yet"),
        ({"messages": [{"role": "user", "content": None}]}, "must be text or a list of parts"),
        ({"messages": [{"role": "user", "content": ["q"]}]}, "a part of a message must be an object"),
        ({"messages": [{"role": "bot", "content": "q"}]}, "unknown role 'bot'"),
        ({"messages": []}, "no turns"),
    ],
)
def test_rows_are_refused(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(SampleError, match=reason):
        messages.read(record)


@pytest.mark.parametrize("said", ["", "q", "<image>", "<image>\nq", "a<image><image> b <image>"])
def test_writing_reads_back(said: str) -> None:
    turns = (Turn("system", "s"), Turn("user", said), Turn("assistant", ""))
    images = tuple(f"{number}.png" for number in range(said.count("<image>")))
    written = messages.write(turns, images)
    assert messages.read(written) == (turns, images)
    assert all(turn["content"] for turn in written["messages"])


def test_marks_in_plain_texts_are_another_format() -> None:
    assert not messages.matches(row("q <image>", images=["a.png"]))
    assert messages.matches(row("q", images=["a.png"]))
    assert messages.matches(row(IMAGE, images=["a.png"]))
    assert messages.matches(row("q"))
    assert not messages.matches({"messages": "q"})
    assert not messages.matches({})
