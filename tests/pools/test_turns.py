"""Image values, roles and turn lists that every format shares."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.pools.helpers import png
from vlmsift.errors import SampleError
from vlmsift.pools.turns import image_refs, records, refuse_media, role_of, text_turns
from vlmsift.types import Turn

DATA_URL = "data:image/png;base64," + base64.b64encode(png()).decode()


@pytest.mark.parametrize(
    ("value", "refs"),
    [
        (None, ()),
        ("", ()),
        ([], ()),
        ("a b/c.png", ("a b/c.png",)),
        (["a.png", "b.png"], ("a.png", "b.png")),
        (png(), (png(),)),
        ({"bytes": png(), "path": "x.png"}, (png(),)),
        ({"bytes": None, "path": "x.png"}, ("x.png",)),
        ({"url": "x.png"}, ("x.png",)),
        ("file:///data/x.png", ("/data/x.png",)),
        (DATA_URL, (png(),)),
        ([{"url": DATA_URL}, "a.png"], (png(), "a.png")),
    ],
)
def test_an_image_field_is_read(value: Any, refs: tuple[str | bytes, ...]) -> None:
    assert image_refs(value) == refs


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (42, "a path or bytes, but is '42'"),
        ({"bytes": None, "path": None}, "a path or bytes"),
        ([None], "a path or bytes"),
        ([""], "a path or bytes"),
        (b"", "a path or bytes"),
        ("https://example.org/x.png", "opens no network"),
        ({"url": "HTTP://example.org/x.png"}, "opens no network"),
        ("s3://bucket/x.png", "download it first"),
        ("data:image/png;base64,@@@", "not valid base64"),
        ("data:image/png,xyz", "without ;base64"),
    ],
)
def test_an_image_value_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(SampleError, match=reason):
        image_refs(value)


def test_roles() -> None:
    words = ["human", "gpt", "system", "user", "assistant", "observation", "tool", "function_call"]
    roles = ["user", "assistant", "system", "user", "assistant", "user", "user", "assistant"]
    assert [role_of(word) for word in words] == roles
    for word in ("bot", None, 3, ["user"]):
        with pytest.raises(SampleError, match=r"unknown role .*; known are system"):
            role_of(word)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no turns: 'conversations' is missing or empty"),
        ([], "no turns"),
        ({"from": [], "value": []}, "no turns"),
        ("text", "must be a list of objects"),
        ([{"from": "human"}, "text"], "must be a list of objects"),
        ({"from": ["human"], "value": []}, "must be a list of objects"),
    ],
)
def test_turns_that_are_none(value: Any, reason: str) -> None:
    with pytest.raises(SampleError, match=reason):
        records({"conversations": value}, "conversations")


def test_an_object_of_lists_is_a_list_of_objects() -> None:
    rows = records({"turns": {"from": ["human", "gpt"], "value": ["q", "a"]}}, "turns")
    assert text_turns(rows, "from", "value") == (Turn("user", "q"), Turn("assistant", "a"))


@pytest.mark.parametrize("text", [None, 3, ["x"]])
def test_a_text_must_be_a_string(text: Any) -> None:
    with pytest.raises(SampleError, match="turn 1: 'value' must be a string"):
        text_turns([{"from": "human", "value": "q"}, {"from": "gpt", "value": text}], "from", "value")


@pytest.mark.parametrize("field", ["video", "videos", "audio", "audios"])
def test_video_and_audio_are_refused(field: str) -> None:
    with pytest.raises(SampleError, match="not supported yet"):
        refuse_media({field: ["x.mp4"]})
    refuse_media({field: None})
    refuse_media({field: []})
