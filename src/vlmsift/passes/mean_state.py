"""The mean state of many samples at one depth: what a masked state can be replaced by without looking masked."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from vlmsift.errors import UsageError
from vlmsift.passes.capture import Capture
from vlmsift.passes.hidden import PooledHidden
from vlmsift.passes.measure import measure
from vlmsift.types import Batch


def mean_state(capture: Capture, layer: int, batches: Iterable[Batch]) -> Tensor:
    """(D,) float32: what enters a layer, the mean over the samples of their means (see `PooledHidden`).

    Raises:
        UsageError: there is no sample.
    """
    need = PooledHidden((layer + 0.5) / capture.adapter.depth)
    means = [measure(capture, batch, [need])[need] for batch in batches]  # of (B, D) each
    if not means:
        raise UsageError("not one sample can be encoded, so the pool has no mean state; see the errors of a run")
    return torch.cat(means).double().mean(0).float()
