"""Calibrations and comparisons in a run's folder and beside it. In: the folder. Out: their accounts, by folder."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vlmsift.tables import Account, read_account

TABLE = "table.parquet"  # what `calibrate` and `validate` call theirs
MOST = 6


def accounts_near(folder: Path) -> dict[str, Account]:
    """Folder -> the account of what was calibrated or compared there: in the run, above it, or beside it."""
    home = folder.resolve()
    tables = [home / TABLE, home.parent / TABLE, *sorted(home.parent.glob(f"*/{TABLE}"))]
    found: dict[str, Account] = {}
    for path in dict.fromkeys(tables):
        try:
            account = read_account(pq.read_schema(path).metadata)
        except (OSError, pa.ArrowException):
            continue
        if account is not None and len(found) < MOST:
            found[path.parent.name] = account
    return found
