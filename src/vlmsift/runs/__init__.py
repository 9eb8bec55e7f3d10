"""The run folder: what was measured, with what, part by part; and several runs as one."""

from vlmsift.runs.run import FIXED, INSIDE, Column, Run

__all__ = ["FIXED", "INSIDE", "Column", "Run"]
