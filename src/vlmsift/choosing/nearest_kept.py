"""Reasons that name a kept sample: why a row that has a like among the kept ones was dropped."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlmsift.choosing.candidates import Candidates
from vlmsift.choosing.words import Words, joined, shown


def named(candidates: Candidates, before: str, values: NDArray[np.floating[Any]], places: NDArray[np.int64]) -> Words:
    """N words such as "similarity 0.9312 to 's5'", of `values` (N,) and ids at `places` (N,)."""
    return joined(f"{before} ", shown(values, 4), " to '", ids_of(candidates, places), "'")


def ids_of(candidates: Candidates, places: NDArray[np.int64]) -> Words:
    """The ids of the candidates at `places` (N,)."""
    return Words(len(places), lambda at: candidates.ids(places[at]))
