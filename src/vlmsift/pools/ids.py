"""Stable unique ids. In: the id fields of every row. Out: one string per row, no two equal.

The rule, in order:

1. The id is the row's field `id`; where that is missing, null or empty, `question_id`; then `uid`.
2. A string stays as it is; a whole number becomes its decimal digits; any other JSON value its compact JSON text.
3. A row without any of them is named `row-<index>`, counting from 0.
4. Where an id occurs again (the number 1 and the text "1" are the same id), the later rows get `#2`, `#3`, ... in file
   order, skipping every name that some row has literally. A `row-<index>` that some row has literally counts as an id
   that occurs again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

ID_FIELDS = ("id", "question_id", "uid")


def text_of(value: Any) -> str | None:
    """An id or source value as text; None where it is missing, null or empty."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")  # half a surrogate pair is spelled out
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def own_id(fields: Mapping[str, Any]) -> str | None:
    """The id that a row itself carries (steps 1 and 2 of the rule), if any."""
    return next((text for name in ID_FIELDS if (text := text_of(fields.get(name))) is not None), None)


def unique_ids(own: Iterable[str | None]) -> list[str]:
    """Steps 3 and 4 of the rule: N ids that rows carry, or None, to N unique ids in the same order."""
    given = list(own)
    last = {name: 1 for name in given if name is not None}  # literal id -> last number handed out
    seen: set[str] = set()
    ids: list[str] = []
    for index, name in enumerate(given):
        base = f"row-{index}" if name is None else name
        unique = base
        if base in (last if name is None else seen):
            last[base] += 1
            while (unique := f"{base}#{last[base]}") in last:  # some row has it literally
                last[base] += 1
        seen.add(unique)
        ids.append(unique)
    return ids
