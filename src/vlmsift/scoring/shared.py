"""Large tensors from worker processes, left where the worker wrote them.

In: a tensor, in a worker. Out: the same values in the main process, without a copy. The memory is anonymous and handed
down by fork: it has no name and no file descriptor, so whoever is killed leaves nothing behind, and neither the size of
/dev/shm nor the number of open files bounds it. Pages are the machine's only once they are written to.
"""

from __future__ import annotations

import mmap
import os
import sys
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

LARGE = 256 << 10  # bytes: below, the pipe is cheaper
PAGE = 256 << 10  # bytes: what one flag stands for
MOST = 4 << 30  # bytes shared with all workers of a feed, as far as a quarter of the machine's memory goes


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies, as it travels through the pipe."""

    worker: int
    page: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize


class Room:
    """Memory that one worker fills and the process that forked it reads and frees: neither waits for the other."""

    def __init__(self, worker: int, size: int) -> None:
        self.worker, self.reader = worker, os.getpid()
        pages = size // PAGE
        self.memory: Any = np.frombuffer(mmap.mmap(-1, pages * PAGE), np.uint8)  # (pages * PAGE,)
        self.taken: Any = np.frombuffer(mmap.mmap(-1, pages), np.bool_)  # (pages,), set by the worker, cleared by us

    def put(self, tensor: Tensor) -> Place | None:
        """Write a tensor down; None where there is no room for it."""
        pages = _pages(tensor.nbytes)
        edges = np.concatenate([[-1], np.flatnonzero(self.taken), [len(self.taken)]])
        gaps = np.flatnonzero(np.diff(edges) > pages)
        if not len(gaps):
            return None
        # the lowest that fits: pages that have been written to before are used again
        place = Place(self.worker, int(edges[gaps[0]]) + 1, tuple(tensor.shape), tensor.dtype)
        self.taken[place.page : place.page + pages] = True
        _tensor(self._bytes(place), place).copy_(tensor)
        return place

    def get(self, place: Place) -> Tensor:
        """The tensor there. Its pages are free again when nobody holds it, or a view of it, any longer."""
        held = self._bytes(place)  # the tensor's storage keeps this array
        weakref.finalize(held, self._free, place).atexit = False
        return _tensor(held, place)

    def _bytes(self, place: Place) -> Any:
        start = place.page * PAGE
        return self.memory[start : start + place.bytes]

    def _free(self, place: Place) -> None:
        if os.getpid() == self.reader:  # a process forked later has the tensor too, and may drop it
            self.taken[place.page : place.page + _pages(place.bytes)] = False


def make_rooms(workers: int, most: int = MOST) -> list[Room]:
    """A room for each worker; none where processes are not forked or the memory is refused: then the pipe serves."""
    if sys.platform == "win32":
        return []
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    size = min(most, memory // 4) // workers
    try:
        return [Room(worker, size) for worker in range(workers)] if size >= PAGE else []
    except OSError:
        return []


def _pages(count: int) -> int:
    """Pages that hold so many bytes."""
    return -(-count // PAGE)


def _tensor(held: Any, place: Place) -> Tensor:
    return torch.from_numpy(held).view(place.dtype).view(place.shape)
