"""What every format shares: roles, image values, checks. In: pieces of a source row. Out: turns and image refs.

A reason for refusing a row opens with its kind and a colon: a run's summary counts the kinds.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from vlmsift.errors import SampleError
from vlmsift.types import IMAGE_MARK, ImageRef, Role, Turn

Row = Mapping[str, Any]
Read = tuple[tuple[Turn, ...], tuple[ImageRef, ...]]

# What a tool answers is given to the model, what it calls is made by the model: so it is supervised.
ROLES: dict[str, Role] = {
    "system": "system",
    **dict.fromkeys(("user", "human", "observation", "tool"), "user"),
    **dict.fromkeys(("assistant", "gpt", "function_call"), "assistant"),
}
_UNSUPPORTED = {"video": "videos are", "videos": "videos are", "audio": "audio is", "audios": "audio is"}


class Format(Protocol):
    """A way to write a conversation down; the modules `llava`, `messages` and `sharegpt` are three."""

    FIELDS: frozenset[str]
    EXPECTS: str

    def matches(self, row: Row) -> bool:
        """Whether a row looks like this format; never raises."""

    def read(self, row: Row) -> Read:
        """Turns and images of a row. Raises SampleError."""

    def write(self, turns: Sequence[Turn], images: Sequence[Any]) -> dict[str, Any]:
        """The fields of a row that reads back as these turns and images."""


def is_records(value: Any, *keys: str) -> bool:
    """Whether a value looks like turns: a list of objects, or an object of lists, whose first one has all the keys."""
    first = value if isinstance(value, Mapping) else value[0] if isinstance(value, list) and value else None
    return isinstance(first, Mapping) and all(key in first for key in keys)


def plain_marks(row: Row) -> int | None:
    """How many marks stand in `messages` whose contents are all strings; None where they are not."""
    try:
        return _count_marks(text_turns(records(row, "messages"), "role", "content"))
    except SampleError:
        return None


def _count_marks(turns: Iterable[Turn]) -> int:
    return sum(turn.text.count(IMAGE_MARK) for turn in turns)


def malformed(wanted: str, found: Any) -> SampleError:
    """The error of a row: what is `wanted`, a sentence's beginning, and how that which was `found` starts."""
    return SampleError("malformed row", f"{wanted}, but is {str(found)[:80]!r}")


def records(row: Row, field: str) -> list[Row]:
    """The turns in `row[field]`: a list of objects, or (older `datasets`) an object of equally long lists.

    Raises SampleError where there are none, or they are something else.
    """
    value = row.get(field)
    if isinstance(value, Mapping):
        lists = [column for column in value.values() if isinstance(column, list)]
        if len(lists) == len(value) and len(set(map(len, lists))) == 1:
            value = [dict(zip(value, turn, strict=True)) for turn in zip(*lists, strict=True)]
    if value is None or value == []:
        raise SampleError("no turns", f"{field!r} is missing or empty")
    if not isinstance(value, list) or not all(isinstance(turn, Mapping) for turn in value):
        raise malformed(f"{field!r} must be a list of objects", value)
    return value


def role_of(value: Any) -> Role:
    """The role that a source's word means. Raises SampleError for an unknown one."""
    role = ROLES.get(value) if isinstance(value, str) else None
    if role is None:
        raise SampleError("malformed row", f"unknown role {value!r}; known are {', '.join(ROLES)}")
    return role


def text_turns(turns: Iterable[Row], role: str, text: str) -> tuple[Turn, ...]:
    """Turns whose text is a plain string under key `text`, the speaker under key `role`.

    Raises SampleError for an unknown role, or a text that is no string.
    """
    read = []
    for number, turn in enumerate(turns):
        value = turn.get(text)
        if not isinstance(value, str):
            raise malformed(f"turn {number}: {text!r} must be a string", value)
        read.append(Turn(role_of(turn.get(role)), value))
    return tuple(read)


def image_refs(value: Any) -> tuple[ImageRef, ...]:
    """The images in a field: one, a list of them, or none (missing, null, empty)."""
    if value is None or value == "" or value == []:
        return ()
    return tuple(map(image_ref, value)) if isinstance(value, list) else (image_ref(value),)


def image_ref(value: Any) -> ImageRef:
    """One image as a path below the image root, or as encoded bytes.

    Takes a path, `file://` path, data URL, bytes, or {"bytes", "path"} as `datasets` stores it (bytes win). Raises
    SampleError for a link to the network, a broken data URL, or something that is no image.
    """
    if isinstance(value, Mapping):
        value = next((value[key] for key in ("bytes", "path", "url") if value.get(key)), dict(value))
    if isinstance(value, bytes) and value:
        return value
    if not isinstance(value, str) or not value:
        raise malformed("an image must be a path or bytes", value)
    if value[:5].lower() == "data:":
        head, _, body = value.partition(",")
        if not head.endswith(";base64"):
            raise SampleError("broken image", f"a data URL without ;base64: {head[:80]!r}")
        return from_base64(body)
    path = value.removeprefix("file://")
    if "://" in path:
        raise SampleError("image is a link", f"{value[:200]!r}; download it first: vlmsift opens no network")
    return path


def from_base64(text: Any) -> bytes:
    """Encoded image bytes from base64. Raises SampleError where it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise SampleError("broken image", f"not valid base64 ({error}): {str(text)[:40]!r}") from error


def refuse_media(row: Row) -> None:
    """Raises SampleError where a row (or a part of a message) carries video or audio."""
    for field, what in _UNSUPPORTED.items():
        if row.get(field):
            raise SampleError(f"{what} not supported yet")


def pair(turns: tuple[Turn, ...], images: tuple[ImageRef, ...]) -> Read:
    """Both. Raises SampleError unless there is one image for each mark."""
    if (marks := _count_marks(turns)) != len(images):
        raise SampleError("wrong image count", f"{marks} {IMAGE_MARK} marks but {len(images)} images; each needs one")
    return turns, images
