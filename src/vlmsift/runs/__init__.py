"""The run folder: what was measured, with what, part by part; and several runs as one."""

from vlmsift.runs.columns import FIXED, Column
from vlmsift.runs.record import INSIDE
from vlmsift.runs.run import Run

__all__ = ["FIXED", "INSIDE", "Column", "Run"]
