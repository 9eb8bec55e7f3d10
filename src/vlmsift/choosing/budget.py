"""How many samples to keep. In: what the user wrote (`--keep`). Out: an exact number of rows."""

from __future__ import annotations

import re
from decimal import Decimal

from vlmsift.errors import UsageError

CLEAN = "clean"
"""In place of a budget: all that a selector which judges finds good (see `frame.choose`)."""

_SHARE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?%")


def parse_keep(keep: str | int, total: int) -> int:
    """The budget in rows: a share such as "20%", or a count such as 500 or "500".

    A share is of all `total` rows of the run, text-only and error rows included, rounded down but at least 1.

    Raises:
        UsageError: not a share in (0 %, 100 %] nor a whole number from 1 to `total`.
    """
    if total < 1:
        raise UsageError("there is nothing to choose from: the run has no rows.")
    text = str(keep).strip()
    cure = f"Give a share such as '20%' or a count from 1 to {total}."
    if match := _SHARE.fullmatch(text):
        percent = Decimal(match[1])
        if not 0 < percent <= 100:
            raise UsageError(f"keep={keep!r} is not a share above 0% and up to 100%. {cure}")
        return max(1, int(percent * total / 100))
    if isinstance(keep, float):
        raise UsageError(f"keep={keep!r} can be read as a share or a count. {cure}")
    if not re.fullmatch("-?[0-9]+", text):
        raise UsageError(f"keep={keep!r} is neither a share nor a count. {cure}")
    if not 1 <= int(text) <= total:
        raise UsageError(f"keep={keep!r} asks for {text} of the run's {total} rows. {cure}")
    return int(text)
