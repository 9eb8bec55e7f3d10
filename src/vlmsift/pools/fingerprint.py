"""Which data it is. In: the files of a pool's rows. Out: a digest; neither names nor times count.

All bytes below 4 GB; above, what `_sample` reads of them, and the digest says so. It is the same wherever they lie.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import accumulate
from typing import Any

from vlmsift.places import Place, StorePath, as_place
from vlmsift.pools.local_copies import copied

WHOLE = 4 << 30  # bytes that are still read all
SAMPLED = "sampled:"  # before the digest of more
_BLOCKS, _BLOCK = 256, 1 << 16  # how many of which size are drawn from more; a file's end is one more, in any case
_AT_ONCE = 8  # files
_TICK = 2_000_000_000  # nanoseconds; the coarsest clock of a file system (FAT)


def fingerprint(files: Sequence[Place]) -> str:
    """sha256 (hex) of the files' bytes, in order. Files that have not changed are not read again. About 2 s per GB.

    Where they are larger than `WHOLE` together: `SAMPLED` and the sha256 of their sizes, the last 64 KiB of each, and
    256 blocks of 64 KiB at places that the sizes draw.
    """
    found = [(path, path.stat()) for path in files]
    states = tuple((str(path), state.st_size, state.st_mtime_ns, getattr(state, "st_ino", 0)) for path, state in found)
    # a file may change again within one tick of its clock
    settled = all(0 < state.st_mtime_ns < time.time_ns() - _TICK for _, state in found)
    return (_digest if settled else _digest.__wrapped__)(states)


@lru_cache(maxsize=8)
def _digest(states: tuple[tuple[str, int, int, int], ...]) -> str:
    """Of files, each given by its path, size, time of change and number on the disk."""
    digest, sizes = hashlib.sha256(), [size for _, size, *_ in states]
    if sum(sizes) > WHOLE:
        return SAMPLED + _sample([path for path, *_ in states], sizes)
    for path, size, *_ in states:
        digest.update(size.to_bytes(8, "big"))
        with _open(path) as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _sample(paths: Sequence[str], sizes: Sequence[int]) -> str:
    draw, ends = random.Random(str(sizes)), list(accumulate(sizes))
    places = [draw.randrange(ends[-1]) for _ in range(_BLOCKS)]  # in all files, one behind the other

    def read(path: str, size: int, end: int) -> bytes:
        digest = hashlib.sha256(size.to_bytes(8, "big"))
        inside = sorted(place - end + size for place in places if end - size <= place < end)
        with _open(path) as file:
            for place in (*inside, max(0, size - _BLOCK)):
                file.seek(place)
                digest.update(file.read(_BLOCK))
        return digest.digest()

    with ThreadPoolExecutor(_AT_ONCE) as threads:  # in a store each block is a request
        return hashlib.sha256(b"".join(threads.map(read, paths, sizes, ends))).hexdigest()


def _open(path: str) -> Any:
    place = as_place(path)
    return ((isinstance(place, StorePath) and copied(place)) or place).open("rb")
