"""LLaVA rows. In: {"conversations": [{"from", "value"}], "image" or "images"}. Out: turns and images, and back.

`image` is one image or a list; `<image>` marks stand in the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlmsift.pools.turns import Read, Row, image_refs, is_records, pair, records, refuse_media, text_turns
from vlmsift.types import Turn

FIELDS = frozenset({"conversations", "image", "images"})
EXPECTS = '"conversations": [{"from": "human" or "gpt", "value": text with <image> marks}], "image": path or list'

_SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt"}


def matches(row: Row) -> bool:
    """Whether a row looks like this format. With `images` but no `image` it is ShareGPT's."""
    not_sharegpt = bool(row.get("image")) or row.get("images") is None
    return is_records(row.get("conversations"), "from", "value") and not_sharegpt


def read(row: Row) -> Read:
    """Turns with marks, and their images. Raises SampleError with the reason where that cannot be."""
    refuse_media(row)
    turns = text_turns(records(row, "conversations"), "from", "value")
    return pair(turns, image_refs(row.get("image")) or image_refs(row.get("images")))


def write(turns: Sequence[Turn], images: Sequence[Any]) -> dict[str, Any]:
    """The fields of a row. One image goes to `image`, several to `images`, so that either column has one type."""
    row: dict[str, Any] = {"image": images[0]} if len(images) == 1 else {"images": list(images)} if images else {}
    row["conversations"] = [{"from": _SPEAKERS[turn.role], "value": turn.text} for turn in turns]
    return row
