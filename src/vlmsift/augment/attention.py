"""The text layers' attention while a model is augmented: what the model would compute, seen and changed.

In: the implementation that the model runs, and the plan that a layer was called with. Out: its output, with other keys
visible or heads silenced where the plan says so; and to the plan's observer, what the rows attend to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

from vlmsift.augment.change import Change
from vlmsift.errors import UnsupportedModel, UsageError
from vlmsift.passes.attention import Observer, Rows, attention_chunks, visible_keys
from vlmsift.passes.attention_received import AttentionReceived
from vlmsift.types import Batch

PREFIX = "vlmsift_train_"
ARGUMENT = "vlmsift_plan"
"""Name of the argument under which a layer, and with it our attention function, is given the plan."""


@dataclass
class Plan:
    """One training forward: its batch, and what happens to it."""

    batch: Batch
    taking_part: Tensor  # (B,) bool
    change: Change | None = None
    ranking: AttentionReceived | None = None  # set while tokens are ranked in this same forward
    observer: Observer | None = None
    rows: Rows | None = None
    observed: set[int] = field(default_factory=set)


def installed_name(before: str, model: str) -> str:
    """Register our function around the attention implementation `before`, and say its name."""
    functions, masks = AttentionInterface(), AttentionMaskInterface()
    if before.startswith(PREFIX):
        raise UsageError(f"{model} is being augmented already; close that masked_states first")
    if before != "eager" and (before not in functions or before not in masks):
        raise UnsupportedModel(
            f"{model} runs attention {before!r}, which cannot be watched; load it with attn_implementation='sdpa'"
        )
    name = PREFIX + before
    if name not in functions:
        AttentionInterface.register(name, _attention_around(before))
        # without a mask function of the same name no mask is built at all
        AttentionMaskInterface.register(name, masks[before])
    return name


def _attention_around(before: str) -> Callable[..., tuple[Tensor, Any]]:
    """The attention `before`, seen and changed where the layer was given a plan."""

    def attention(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
    ) -> tuple[Tensor, Any]:
        plan: Plan | None = kwargs.pop(ARGUMENT, None)
        theirs: Any = (
            sys.modules[type(module).__module__].eager_attention_forward
            if before == "eager"
            else AttentionInterface()[before]
        )
        layer = module.layer_idx
        if plan is not None:
            causal = bool(getattr(module, "is_causal", True))
            if plan.observer is not None and plan.change is None and layer in plan.observer.layers:
                _observe(plan, layer, query, key, attention_mask, causal, kwargs)
            if plan.change is not None and plan.change.visible is not None:
                attention_mask = _changed_mask(plan, layer, query, attention_mask, causal)
        output, weights = theirs(module, query, key, value, attention_mask, **kwargs)
        if plan is not None and plan.change is not None and plan.change.silent_heads is not None:
            output = output.masked_fill(plan.change.silent_heads[layer].to(output.device)[:, None, :, None], 0)
        return output, weights

    return attention


def _observe(
    plan: Plan, layer: int, query: Tensor, key: Tensor, mask: Tensor | None, causal: bool, kwargs: dict[str, Any]
) -> None:
    assert plan.observer is not None
    assert plan.rows is not None
    place = plan.rows.index.device
    scaling = kwargs.get("scaling") or query.shape[-1] ** -0.5
    with torch.no_grad():
        q, k, seen_mask = query.to(place), key.to(place), _four_axes(mask, query.shape[2], causal, place)
        how = {"scaling": scaling, "causal": causal, "softcap": kwargs.get("softcap")}
        for seen in attention_chunks(q, k, seen_mask, plan.rows, **how):
            plan.observer.see(layer, seen)
    plan.observed.add(layer)


def _four_axes(mask: Tensor | None, length: int, causal: bool, place: torch.device) -> Tensor | None:
    """A mask as (B or 1, 1, T, T); kernels that mask padding on their own are given (B, T)."""
    if mask is None or mask.ndim != 2:
        return None if mask is None else mask.to(place)
    seen = mask.bool()[:, None, None, :].to(place).expand(-1, 1, length, -1)
    return seen.tril() if causal else seen


def _changed_mask(plan: Plan, layer: int, query: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """(B, 1, T, T): the mask with the plan's own keys, in the form (bool or additive) that it came in."""
    assert plan.change is not None
    assert plan.change.visible is not None
    batch, _, length, _ = query.shape
    if mask is not None and mask.ndim == 2:
        raise UnsupportedModel(
            "this augmentation needs an attention that takes a whole mask; load the model with "
            "attn_implementation='sdpa'"
        )
    everything = torch.arange(length, device=query.device).expand(batch, -1)
    rows = Rows(everything, torch.ones_like(everything, dtype=torch.bool))
    before = visible_keys(mask, rows, length, causal)
    visible = plan.change.visible(layer, before.to(plan.batch.valid.device)).to(query.device)[:, None]
    if mask is None or mask.dtype == torch.bool:
        return visible
    return mask.expand(batch, -1, -1, -1).masked_fill(~visible, torch.finfo(mask.dtype).min)
