"""Memory of batches on a CPU: kept from one to the next."""

from __future__ import annotations

import torch


def keep_memory() -> None:
    """Have glibc keep freed memory for the next batch: it raises its bounds to the largest block it has seen freed.

    Else each layer's tensors go back to the kernel, and come anew from it, a page at a time. 32 MiB is the most that
    it learns from (mallopt(3), M_MMAP_THRESHOLD); twice as much stays at hand. Elsewhere this does nothing.
    """
    torch.empty((32 << 20) - (64 << 10), dtype=torch.uint8)
