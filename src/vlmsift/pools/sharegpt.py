"""ShareGPT rows (LLaMA-Factory). In: {"conversations" or "messages", "images"}. Out: turns and images, and back.

Texts are plain with `<image>` marks. Speakers may be `observation` and `function_call`; a `system` field is a turn
before the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlmsift.pools.turns import Read, Row, image_refs, is_records, pair, plain_marks, records, refuse_media, text_turns
from vlmsift.types import Turn

FIELDS = frozenset({"conversations", "messages", "images", "system"})
EXPECTS = '"conversations": [{"from", "value"}] or "messages": [{"role", "content": marked text}], "images": list'


def matches(row: Row) -> bool:
    """Whether a row looks like this format: plain texts with as many marks as there are `images`."""
    images = row.get("images")
    if not isinstance(images, list) or row.get("image"):
        return False
    return is_records(row.get("conversations"), "from", "value") or plain_marks(row) == len(images)


def read(row: Row) -> Read:
    """Turns with marks, and their images. Raises SampleError with the reason where that cannot be."""
    refuse_media(row)
    own = ("conversations", "from", "value") if row.get("conversations") else ("messages", "role", "content")
    turns = text_turns(records(row, own[0]), *own[1:])
    if isinstance(system := row.get("system"), str) and system:
        turns = (Turn("system", system), *turns)
    return pair(turns, image_refs(row.get("images")))


def write(turns: Sequence[Turn], images: Sequence[Any]) -> dict[str, Any]:
    """The fields of a row, in the `messages` spelling."""
    return {"messages": [{"role": turn.role, "content": turn.text} for turn in turns], "images": list(images)}
