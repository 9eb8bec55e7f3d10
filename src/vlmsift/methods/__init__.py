"""Methods: named recipes of signals, selector and defaults. `vlmsift sift --method NAME` runs one of `METHODS`."""

from __future__ import annotations

from vlmsift.errors import UsageError
from vlmsift.methods.method import Method, Training
from vlmsift.methods.sifting import sift
from vlmsift.methods.table import METHODS

__all__ = ["METHODS", "Method", "Training", "find_method", "sift"]


def find_method(name: str) -> Method:
    """The method of that name. Raises UsageError naming the others."""
    if name not in METHODS:
        raise UsageError(f"there is no method {name!r}; choose among {', '.join(METHODS)}")
    return METHODS[name]
