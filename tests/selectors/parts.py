"""Candidates in the order given, for tests of what a selector does with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from tests.sample_runs import make_table
from vlmsift.choosing.run_columns import open_columns
from vlmsift.selectors import Candidates


def candidates(signals: dict[str, Any], seed: int = 0, **fixed: Any) -> Candidates:
    """Candidates with those columns (see `tests.sample_runs.make_table`), not reordered."""
    return of_table(make_table(signals, **fixed), seed)


def of_table(table: pa.Table, seed: int = 0) -> Candidates:
    """All rows of a table as candidates, not reordered."""
    return Candidates(open_columns(table, []), "images", seed, np.arange(len(table)))
