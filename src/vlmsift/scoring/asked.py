"""Rows of an earlier run that a condition names. In: a pool, its run, SQL. Out: which rows are asked, and the rest.

So a small model looks at everything, and a large one at what is left: a cascade. The others are in the new run too:
their status is "not asked", the reason is the condition, and what is known without a model comes from the earlier run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlmsift.errors import RunMismatch, UsageError
from vlmsift.folders import Folder, LocalFolder, open_folder
from vlmsift.pools import Pool
from vlmsift.runs import Run
from vlmsift.runs.columns import FIXED, NOT_ASKED

_KNOWN = [field.name for field in FIXED if field.name not in ("answer_tokens", "status", "reason")]


@dataclass(frozen=True)
class Asked:
    """The rows of `of` that fulfil `where`."""

    of: Run
    where: str
    rows: NDArray[np.int64]  # (n,) of the pool, ascending; at least one

    def identity(self) -> dict[str, Any]:
        """As the new run records it: the condition, and which rows it named."""
        digest = hashlib.sha256(self.rows.astype("<i8").tobytes()).hexdigest()[:16]
        return {"where": self.where, "rows": len(self.rows), "digest": digest}

    def within(self, part: range) -> list[int]:
        """Those among the rows of a part."""
        first, end = np.searchsorted(self.rows, [part.start, part.stop])
        return [int(row) for row in self.rows[first:end]]

    def fill(self, part: range, measured: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The columns of a whole part from those of its asked rows."""
        asked = np.isin(np.arange(part.start, part.stop), self.rows)  # (n,)
        known = self.of.rows(part.start, part.stop, _KNOWN)
        columns = {}
        for name, values in measured.items():
            whole = np.full((len(part), *values.shape[1:]), None if values.dtype == object else 0, values.dtype)
            if name in _KNOWN:
                whole[:] = known[name].to_numpy(zero_copy_only=False)
            elif values.dtype.kind == "f":
                whole[:] = np.nan
            whole[asked] = values
            columns[name] = whole
        columns["status"][~asked] = NOT_ASKED
        columns["reason"][~asked] = f"{NOT_ASKED}: not ({self.where})"
        return columns


def ask(pool: Pool, fingerprint: str, of: str | Path | Run, where: str, out: str | Path) -> Asked:
    """The rows to score. `fingerprint`: of the pool.

    Raises:
        UsageError: the run is unfinished, the condition cannot be meant or names no row, or `out` is the run itself.
        RunMismatch: the run is of another pool.
    """
    run = of if isinstance(of, Run) else Run.open(of)
    if _whereabouts(open_folder(out)) == _whereabouts(run.home):
        raise UsageError(f"--out {out} is the run that --of names; name another folder for what is scored now")
    if run.settings["identity"]["data"]["fingerprint"] != fingerprint:
        cure = "Name a run of this pool with --of"
        raise RunMismatch(
            f"{run.place} was scored on other data than {pool.path}, or on an earlier state of it. {cure}"
        )
    if (there := len(run.finished_parts())) < (parts := len(run.parts)):
        cure = "Start its own score command again to finish it"
        raise UsageError(f"{run.place} is unfinished: {there} of {parts} parts are there. {cure}")
    rows = run.query(where)
    if not len(rows):
        raise UsageError(f"where={where!r} holds for none of the {run.pool_rows} rows of {run.place}; ask for some")
    return Asked(run, where, rows)


def _whereabouts(home: Folder) -> str:
    return str(home.path.resolve()) if isinstance(home, LocalFolder) else home.place
