"""A run's masking, taken over for a training. In: a run. Out: the fields of the masking, and the special tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlmsift.errors import UsageError
from vlmsift.runs.run import Run

SIGNAL = "delta_attnmask"
NOT_TAKEN = ("choose", "seed", "relative")
"""Which tokens are taken of those ranked is the variant's, draws are a training's own, and no number is kept."""


def masking_of(like: str | Path | Run) -> tuple[dict[str, Any], list[int] | None]:
    """The fields by which the run masked tokens (its column `delta_attnmask`, or the only one of that signal).

    Also the ids of the tokens that are special; None where the run does not say. Raises UsageError where there is no
    run, or it holds no such column, or several.
    """
    run = like if isinstance(like, Run) else Run.open(like)
    signals = run.settings["identity"]["signals"]
    settings = {
        column: entry["parameters"]
        for column, entry in signals.items()
        if entry["signal"] == SIGNAL and entry["parameters"]["choose"] == "top"
    }
    if not settings or (len(settings) > 1 and SIGNAL not in settings):
        told = f"several columns of it ({', '.join(settings)})" if settings else f"no {SIGNAL}"
        raise UsageError(f"like={run.place!r} holds {told}; give the fields themselves, as depth=0.25, ratio=0.5")
    taken = settings.get(SIGNAL) or next(iter(settings.values()))
    known = run.settings["info"].get("special_ids")
    fields = {name: value for name, value in taken.items() if name not in NOT_TAKEN}
    return fields, None if known is None else [int(word) for word in known.split()]
