"""All needs of all signals from as few forwards as possible.

In: an open `Capture`, a batch and the needs. Out: need -> tensor. One first pass serves every need; each masked loss
adds the layers from its depth on, so a grid of settings costs masked passes, not full scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vlmsift.errors import UnsupportedModel
from vlmsift.models import Adapter
from vlmsift.passes.attention import AttentionNeed, Observer, Rows
from vlmsift.passes.capture import Capture, Trace
from vlmsift.passes.hidden import PooledHidden, pooled
from vlmsift.passes.interventions import Change, ChangedLoss
from vlmsift.passes.loss import Head, head_means
from vlmsift.passes.masking import Masking, choose_tokens, replace_states
from vlmsift.passes.outputs import OutputNeed, watched
from vlmsift.types import Batch


@dataclass(frozen=True, slots=True)
class MaskedLoss:
    """Answer loss after masking: (B,) float32 nats; NaN where no token is eligible. Costs (L - depth) / L forwards."""

    masking: Masking


@dataclass(frozen=True, slots=True)
class BlindLoss:
    """Answer loss when no position can see an image token (each still sees itself): (B,) float32; NaN without image.

    The keys are dropped in every layer, so the cost is one more text forward; the images are not encoded again.
    """

    @property
    def start(self) -> int:
        return 0

    def change(self, adapter: Adapter, batch: Batch) -> Change | None:
        without = ~batch.image_mask.any(1)
        return None if without.all() else Change(dropped=batch.image_mask, undefined=without)


def measure(capture: Capture, batch: Batch, needs: Iterable[Any]) -> dict[Any, Tensor]:
    """Run the passes that the needs ask for. Results are float32 on the CPU; `Head()` (the loss) is always among them.

    Raises:
        UnsupportedModel: a text layer whose attention is needed or changed did not call our attention function, or a
            module whose output is needed is not there or did not run.
        UsageError: a need that means nothing for this model, such as a layer or a head that it does not have.
    """
    adapter, depth = capture.adapter, capture.adapter.depth
    batch = on_device(batch, adapter.device)
    wanted = dict.fromkeys([Head(), *needs])
    masked = [need for need in wanted if isinstance(need, MaskedLoss)]
    if not batch.image_mask.any():  # nothing to mask: spare the text-only batch its second pass
        masked = [need for need in masked if need.masking.eligible != "image"]
    rankings = [need.masking.ranking(depth) for need in masked]
    observed = [need for need in dict.fromkeys([*wanted, *rankings]) if isinstance(need, AttentionNeed)]
    outputs = {need: need.watcher(adapter, batch) for need in wanted if isinstance(need, OutputNeed)}
    asked = {need: need.change(adapter, batch) for need in wanted if isinstance(need, ChangedLoss)}
    changes = {need: change for need, change in asked.items() if change is not None}
    depths = {need.masking.layer(depth) for need in masked}
    depths |= {layer for need in wanted if isinstance(need, PooledHidden) and (layer := need.layer(depth)) is not None}
    depths |= {need.start for need in changes}

    watching = {need: need.observer(batch, depth) for need in observed}
    capture.observers = _shared_rows(batch, watching)
    capture.layers_seen.clear()
    with torch.no_grad():
        try:
            inputs = adapter.inputs(batch)
            with watched(outputs.values(), adapter.name):
                trace = capture.run(lambda: adapter.backbone(batch, inputs), frozenset(depths))
        finally:
            capture.observers = []
        if changes or any(need.masking.replace == "drop" for need in masked):
            _all_seen(capture, frozenset(range(depth)))
        else:
            _all_seen(capture, frozenset().union(*(observer.layers for observer in watching.values())))
        results: dict[Any, Tensor] = {need: observer.result() for need, observer in watching.items()}
        results |= {need: watcher.result() for need, watcher in outputs.items()}
        heads = [need for need in wanted if isinstance(need, Head)]
        assert trace.last is not None
        values = head_means(adapter, batch, trace.last, [need.statistic for need in heads])
        results |= dict(zip(heads, values, strict=True))
        for need in wanted:
            if isinstance(need, PooledHidden):
                layer = need.layer(depth)
                results[need] = pooled(
                    batch, (trace.last if layer is None else trace.entering[layer]).to(batch.valid.device)
                )
        for need, ranking in zip(masked, rankings, strict=True):
            results[need] = _masked_loss(capture, batch, trace, need.masking, results[ranking])
        for other, change in changes.items():
            results[other] = _changed_loss(capture, batch, trace, other.start, change)
    nothing = torch.full((len(batch),), math.nan)
    return {need: results.get(need, nothing).float().cpu() for need in wanted}


def _masked_loss(capture: Capture, batch: Batch, trace: Trace, masking: Masking, scores: Tensor) -> Tensor:
    layer = masking.layer(capture.adapter.depth)
    chosen = choose_tokens(masking, batch, scores)
    states = replace_states(masking, batch, trace.entering[layer].to(chosen.device), chosen)
    loss = _resumed_loss(capture, batch, trace, layer, states, chosen if masking.replace == "drop" else None)
    return loss.masked_fill(~chosen.any(1), math.nan)


def _changed_loss(capture: Capture, batch: Batch, trace: Trace, layer: int, change: Change) -> Tensor:
    loss = _resumed_loss(capture, batch, trace, layer, trace.entering[layer], change.dropped, change.uniform)
    return loss if change.undefined is None else loss.masked_fill(change.undefined, math.nan)


def _resumed_loss(
    capture: Capture,
    batch: Batch,
    trace: Trace,
    layer: int,
    states: Tensor,
    dropped: Tensor | None,
    uniform: Mapping[int, tuple[int, ...]] | None = None,
) -> Tensor:
    """(B,) answer loss of the decoder run from `layer` on changed states, its attention changed from there on."""
    capture.dropped_keys, capture.uniform_heads = dropped, uniform or {}
    try:
        last = capture.resume(trace, layer, states)
    finally:
        capture.dropped_keys, capture.uniform_heads = None, {}
    return head_means(capture.adapter, batch, last, ["loss"])[0]


def _shared_rows(batch: Batch, watching: dict[Any, Observer]) -> list[tuple[Rows, list[Observer]]]:
    """Observers grouped by the query rows they look at, so that each row's probabilities are computed once."""
    groups: list[tuple[Tensor, list[Observer]]] = []
    for need, observer in watching.items():
        mask = need.rows(batch)
        for known, members in groups:
            if torch.equal(known, mask):
                members.append(observer)
                break
        else:
            groups.append((mask, [observer]))
    return [(Rows.where(mask), members) for mask, members in groups]


def _all_seen(capture: Capture, needed: frozenset[int]) -> None:
    """A layer that never called us would silently count as zero attention, and keep the keys that it should drop."""
    if missing := sorted(needed - capture.layers_seen):
        raise UnsupportedModel(
            f"{capture.adapter.name}: layers {missing} of {capture.adapter.depth} did not pass through transformers' "
            "AttentionInterface, so their attention cannot be measured"
        )


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its masks on the model's device; `inputs` are moved by the adapter."""
    names = ("labels", "image_mask", "image_index", "special_mask", "valid", "query_mask")
    return replace(batch, **{name: getattr(batch, name).to(device) for name in names})
