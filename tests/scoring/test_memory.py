"""Freed memory stays with the process: counted in page faults, in a process that has learnt nothing yet."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

COUNTED = """
import resource, sys, torch
from vlmsift.scoring.memory import keep_memory

if sys.argv[1] == "kept":
    keep_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for size, count in [(3, 15), (6, 9), (12, 4)] * 8:
    kept = [torch.ones(size << 20, dtype=torch.uint8) for _ in range(count)]
    del kept
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone learns so")
def test_a_batch_s_memory_is_the_next_one_s() -> None:
    fresh = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    counts = {}
    for way in ("fresh", "kept"):
        command = [sys.executable, "-c", COUNTED, way]
        told = subprocess.run(command, capture_output=True, text=True, check=True, env=fresh).stdout
        counts[way] = int(told)
    assert counts["fresh"] > 40_000, "until glibc has learnt, batches take their pages from the kernel"
    assert counts["kept"] < 25_000  # what the heap grows by: 48 MiB
