"""All needs of all signals from as few forwards as possible.

In: an open `Capture`, a batch and the needs. Out: need -> tensor. One first pass serves every need; each `Rerun` adds
the layers from its start on, so a grid of settings costs masked passes, not full scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vlmsift.errors import UnsupportedModel
from vlmsift.passes.attention import Observer, Rows
from vlmsift.passes.capture import Capture
from vlmsift.passes.loss import Head, head_means
from vlmsift.passes.needs import Observe, Rerun, Watch
from vlmsift.passes.outputs import watched
from vlmsift.types import Batch, Need


def measure(capture: Capture, batch: Batch, needs: Iterable[Need], wait: bool = True) -> dict[Need, Tensor]:
    """Run the passes that the needs ask for. Results are float32 on the CPU; `Head()` (the loss) is always among them.

    `wait=False` leaves them on the model's device, which may not have come to them yet.

    Raises:
        UnsupportedModel: a text layer whose attention is needed or changed did not call our attention function, or a
            module whose output is needed is not there or did not run.
        UsageError: a need that means nothing for this model, such as a layer or a head that it does not have.
    """
    adapter, depth = capture.adapter, capture.adapter.depth
    batch = on_device(batch, adapter.device)
    wanted = dict.fromkeys([Head(), *needs])
    heads = [need for need in wanted if isinstance(need, Head)]
    # those that mean nothing for the batch (no image to mask) are undefined and cost nothing
    reruns = [need for need in wanted if isinstance(need, Rerun) and need.applies(adapter, batch)]
    rankings = [need.ranking(depth) for need in reruns]
    observed = [need for need in dict.fromkeys([*wanted, *rankings]) if isinstance(need, Observe)]
    observers = {need: need.observer(batch, depth) for need in observed}
    watchers = {need: need.watcher(adapter, batch) for need in wanted if isinstance(need, Watch)}

    capture.observers = _shared_rows(batch, observers)
    capture.layers_seen.clear()
    results: dict[Need | None, Tensor] = {}
    with torch.no_grad():
        try:
            inputs = adapter.inputs(batch)
            with watched(watchers.values(), adapter.name):
                depths = frozenset(need.start(depth) for need in reruns)
                trace = capture.run(lambda: adapter.backbone(batch, inputs), depths)
        finally:
            capture.observers = []
        _all_seen(capture, frozenset().union(*(observer.layers for observer in observers.values())))
        results |= {need: observer.result() for need, observer in observers.items()}
        results |= {need: watcher.result() for need, watcher in watchers.items()}
        assert trace.last is not None
        means = head_means(adapter, batch, trace.last, heads)
        results |= dict(zip(heads, means, strict=True))
        for need, ranking in zip(reruns, rankings, strict=True):
            change = need.intervene(adapter, batch, results.get(ranking))
            if change.of_attention:
                _all_seen(capture, frozenset(range(depth)))
            loss = head_means(adapter, batch, capture.resume(trace, change), [Head()])[0]  # (B,)
            results[need] = loss if change.undefined is None else loss.masked_fill(change.undefined, math.nan)
    nothing = torch.full((len(batch),), math.nan)  # (B,), of a re-run that means nothing for this batch
    found = {need: results.get(need, nothing).float() for need in wanted}
    return fetched(found) if wait else found


def fetched(results: dict[Need, Tensor]) -> dict[Need, Tensor]:
    """The same on the CPU, brought from the device in one piece: each fetch waits for all that the device has to do."""
    far = {need: tensor for need, tensor in results.items() if tensor.device.type != "cpu"}
    if not far:
        return results
    flat = torch.cat([tensor.flatten() for tensor in far.values()]).cpu()
    pieces = torch.split(flat, [tensor.numel() for tensor in far.values()])
    return results | {need: piece.view(far[need].shape) for need, piece in zip(far, pieces, strict=True)}


def _shared_rows(batch: Batch, observers: dict[Observe, Observer]) -> list[tuple[Rows, list[Observer]]]:
    """Observers grouped by the query rows they look at, so that each row's probabilities are computed once."""
    groups: list[tuple[Tensor, list[Observer]]] = []
    for need, observer in observers.items():
        mask = need.rows(batch.on_host)  # (B, T)
        for known, members in groups:
            if torch.equal(known, mask):
                members.append(observer)
                break
        else:
            groups.append((mask, [observer]))
    return [(Rows.where(mask, batch.valid.device), members) for mask, members in groups]


def _all_seen(capture: Capture, needed: frozenset[int]) -> None:
    """A layer that never called us would silently count as zero attention, and keep the keys that it should drop."""
    if missing := sorted(needed - capture.layers_seen):
        raise UnsupportedModel(
            f"{capture.adapter.name}: layers {missing} of {capture.adapter.depth} did not pass through transformers' "
            "AttentionInterface, so their attention cannot be measured"
        )


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its masks on the model's device; `inputs` are moved by the adapter."""
    if batch.valid.device == device:
        return batch
    names = ("labels", "image_mask", "image_index", "special_mask", "valid", "query_mask")
    moved: dict[str, Any] = {name: getattr(batch, name).to(device, non_blocking=True) for name in names}
    return replace(batch, **moved, host=batch)
