"""Reasons that name a kept sample: why a row that has a like among the kept ones was dropped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vlmsift.choosing.candidates import Candidates


def named(candidates: Candidates, before: str, values: NDArray[np.floating[Any]], places: NDArray[np.int64]) -> Any:
    """N strings (`pyarrow.Array`) such as "similarity 0.9312 to 's5'", of `values` (N,) and ids at `places` (N,)."""
    shown = pc.cast(pa.array(np.round(values, 4).astype(np.float64)), pa.string())
    ids = candidates.table["id"].take(pa.array(places)).combine_chunks()
    return pc.binary_join_element_wise(f"{before} ", shown, " to '", ids, "'", "")
