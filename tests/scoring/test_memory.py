"""Freed memory stays with the process: counted in page faults, in a process that has learnt nothing yet."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

COUNTED = """
import resource, torch

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for size, count in [(3, 15), (6, 9), (12, 4)] * 8:
        kept = [torch.ones(size << 20, dtype=torch.uint8) for _ in range(count)]
        del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())  # before anything is imported whose blocks teach as well
from vlmsift.scoring.memory import keep_memory
keep_memory()
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone learns so")
def test_a_batch_s_memory_is_the_next_one_s() -> None:
    fresh = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", COUNTED]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=fresh).stdout
    before, after = map(int, told.split())
    assert before > 10_000, "each batch takes its pages from the kernel"
    assert after < before / 20
