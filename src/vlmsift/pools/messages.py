"""Chat messages (TRL, Qwen). In: {"messages": [{"role", "content"}], "images"}. Out: turns and images, and back.

Content is a string, or parts: {"type": "text", "text"} and {"type": "image"}. An image part holds its image (Qwen:
`image`, also `path`, `url`, `bytes`, `base64`, `image_url`), or takes one from the row's `images` (TRL), the next in
order or the one at its `index`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vlmsift.errors import SampleError
from vlmsift.pools.turns import (
    Read,
    Row,
    from_base64,
    image_ref,
    image_refs,
    is_records,
    malformed,
    pair,
    plain_marks,
    records,
    refuse_media,
    role_of,
)
from vlmsift.types import IMAGE_MARK, ImageRef, Turn

FIELDS = frozenset({"messages", "image", "images"})
EXPECTS = '"messages": [{"role", "content": text, or parts {"type": "text"} and {"type": "image"}}], maybe "images"'

_PAYLOADS = ("image", "bytes", "path", "url", "image_url")


def matches(row: Row) -> bool:
    """Whether a row looks like this format. Plain texts that hold the marks of a row's `images` are ShareGPT's."""
    images = row.get("images")
    plain = isinstance(images, list) and plain_marks(row) == len(images)
    return is_records(row.get("messages"), "role", "content") and not plain


def read(row: Row) -> Read:
    """Turns with marks where the image parts stand, and their images. Raises SampleError with the reason.

    Where all texts are plain and without marks, the row's images stand before the first user turn's text, as in TRL.
    """
    refuse_media(row)
    column = _Column(image_refs(row.get("images")) or image_refs(row.get("image")))
    images: list[ImageRef] = []
    turns = [Turn(role_of(turn.get("role")), _text(turn, column, images)) for turn in records(row, "messages")]
    if column.refs and not images:
        images = list(column.refs)  # no part asked for one
        user = next((number for number, turn in enumerate(turns) if turn.role == "user"), None)
        if user is not None and not any(IMAGE_MARK in turn.text for turn in turns):
            turns[user] = Turn("user", IMAGE_MARK * len(images) + turns[user].text)
    elif len(column.used) != len(column.refs):
        used = f"the row has {len(column.refs)} images, but its messages use {len(column.used)}"
        raise SampleError("wrong image count", used)
    return pair(tuple(turns), tuple(images))


class _Column:
    """The row's images, and which of them were used."""

    def __init__(self, refs: tuple[ImageRef, ...]) -> None:
        self.refs = refs
        self.used: set[int] = set()

    def take(self, index: Any) -> ImageRef:
        place = index if isinstance(index, int) else len(self.used)
        if not 0 <= place < len(self.refs):
            asked = f"a part asks for image {place}, but the row has {len(self.refs)} images"
            raise SampleError("wrong image count", asked)
        self.used.add(place)
        return self.refs[place]


def _text(turn: Row, column: _Column, images: list[ImageRef]) -> str:
    """A turn's text with marks; its images are added to `images` in that order."""
    content = turn.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise malformed("a message's content must be text or a list of parts", content)
    texts = []
    for part in content:
        if not isinstance(part, Mapping):
            raise malformed("a part of a message must be an object", part)
        refuse_media(part)
        kind = part.get("type") or ("text" if isinstance(part.get("text"), str) else "image")
        if kind in ("video", "video_url"):
            raise SampleError("videos are not supported yet")
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind in ("image", "image_url"):
            texts.append(IMAGE_MARK)
            images.append(_image(part, column))
        else:
            found = f"a message holds a part that is neither text nor image: {str(dict(part))[:80]!r}"
            raise SampleError("malformed row", found)
    return "".join(texts)


def _image(part: Row, column: _Column) -> ImageRef:
    if part.get("base64"):
        return from_base64(part["base64"])
    payload = next((part[key] for key in _PAYLOADS if part.get(key) not in (None, "")), None)
    return column.take(part.get("index")) if payload is None else image_ref(payload)


def write(turns: Sequence[Turn], images: Sequence[Any]) -> dict[str, Any]:
    """The fields of a row in TRL's spelling: parts in every message, images in `images`; so each has one type."""
    messages = [{"role": turn.role, "content": _parts(turn.text)} for turn in turns]
    return {"messages": messages, "images": list(images)}


def _parts(text: str) -> list[dict[str, str]]:
    """Parts that read back as exactly this text."""
    parts: list[dict[str, str]] = []
    for number, piece in enumerate(text.split(IMAGE_MARK)):
        if number:
            parts.append({"type": "image"})
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts or [{"type": "text", "text": ""}]
