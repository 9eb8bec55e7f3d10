"""The table of formats. In: a row. Out: the format that it looks like. A new format is one file and one line here."""

from __future__ import annotations

from collections.abc import Sequence

from vlmsift.pools import llava, messages, sharegpt
from vlmsift.pools.turns import Format, Row

FORMATS: dict[str, Format] = {"llava": llava, "messages": messages, "sharegpt": sharegpt}


def guess(rows: Sequence[Row]) -> str | None:
    """The format that most of the rows look like, the first in the table where several do; None where no row does."""
    votes = {name: sum(format.matches(row) for row in rows) for name, format in FORMATS.items()}
    best = max(votes, key=lambda name: votes[name])
    return best if votes[best] else None
