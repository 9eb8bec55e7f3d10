"""Candidates in the order given, for tests of what a selector does with them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tests.sample_runs import make_table
from vlmsift.runs.query import as_vectors
from vlmsift.selectors import Candidates


def candidates(signals: dict[str, Any], seed: int = 0, **fixed: Any) -> Candidates:
    """Candidates with those columns (see `tests.sample_runs.make_table`), not reordered."""
    table = make_table(signals, **fixed)
    nested = [name for name, values in signals.items() if np.ndim(values) > 1]
    vectors = {name: partial(as_vectors, table[name]) for name in nested}
    return Candidates(table.drop_columns(nested), "images", seed, np.arange(len(table)), vectors)
