"""How many samples to keep. In: what the user wrote (`--keep`). Out: an exact number of rows."""

from __future__ import annotations

import re
from decimal import Decimal

from vlmsift.errors import UsageError

CLEAN = "clean"  # in place of a budget: all that a selector which judges finds good (see `selecting.select`)
_NUMBER = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)( ?%)?")


def parse_keep(keep: float | str, total: int) -> int:
    """The budget in rows: a share such as 0.2 or "20%", or a count such as 500 or "500".

    A number with a point is a share, so 1.0 is everything and 1 is one sample. A share is of all `total` rows of the
    run, text-only and error rows included, rounded down but at least 1. Raises UsageError for what is not a share above
    0 and up to 1 nor a whole number from 1 to `total`.
    """
    if total < 1:
        raise UsageError("there is nothing to choose from: the run has no rows.")
    # decimal and without an exponent: 0.29 of 100 rows is 29, and 1e-05 is a share too
    text = f"{Decimal(str(keep)):f}" if isinstance(keep, float) else str(keep).strip()
    cure = f"Give a share such as 0.2 or '20%', or a count from 1 to {total}."
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise UsageError(f"keep={keep!r} is neither a share nor a count. {cure}")
    number = Decimal(match[1])
    if match[2] or "." in match[1]:
        whole = 100 if match[2] else 1
        if not 0 < number <= whole:
            raise UsageError(f"keep={keep!r} is not a share above 0 and up to 1, or 100%. {cure}")
        return max(1, int(number * total / whole))
    if not 1 <= number <= total:
        raise UsageError(f"keep={keep!r} asks for {text} of the run's {total} rows. {cure}")
    return int(number)
