"""The decoder's attention and states, seen and changed while it runs: one way, for scoring and for training.

In: the attention function that would run, and an `Interception`: who looks, and what is changed. Out: what the model
would have computed but for the `Intervention`.

The interception reaches our attention function by one of two ways. In training it is an argument of every layer's call
(`ARGUMENT`): a layer that is computed again in the backward pass (gradient checkpointing) is called with the arguments
of its own forward, while another forward may have begun. In scoring nothing is computed again, and it is looked up by
the attention module (`OPEN`): a layer whose code does not hand unknown arguments on to its attention is measured too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from vlmsift.errors import UnsupportedModel, UsageError
from vlmsift.passes.attention import Observer, Rows, Seen, attention_chunks, visible_means, without_keys

SCORING = "vlmsift"
"""The attention implementation while a model is scored; in training it is this and the name of the model's own."""
ARGUMENT = "vlmsift_interception"
"""Name of the argument by which a layer, and with it our attention function, gets (interception, layer)."""
NOT_MODELLED = ("s_aux", "position_bias")
"""Learned sinks and biases on the scores: our probabilities would be wrong where a model has them."""
Attention = Callable[..., tuple[Tensor, Any]]


@dataclass(frozen=True, slots=True)
class Intervention:
    """What is changed in one forward of the decoder. Every tensor may lie on another device than the layer."""

    layer: int = 0  # whose input `states` changes; no layer before it is changed at all
    states: Callable[[Tensor], Tensor] | None = None  # (B, T, D) -> (B, T, D), differentiable; None = not touched
    every: bool = False  # `states` changes what enters each layer from `layer` on, not that one alone
    visible: Callable[[int, Tensor], Tensor] | None = None
    """(layer, (B, T, T) bool) -> (B, T, T) bool, the keys that each row may see; each keeps one. None = no change."""
    uniform_heads: Mapping[int, tuple[int, ...]] = field(default_factory=dict)  # layer -> heads that see all keys alike
    silent_heads: Tensor | None = None  # (L, B, H) bool, heads whose output becomes zero; None = none
    undefined: Tensor | None = None  # (B,) bool, samples for which the change means nothing; None = none
    chosen: Tensor | None = None  # (B, T) bool, the tokens that were chosen; for a look from outside

    @property
    def of_attention(self) -> bool:
        """Whether attention itself is changed."""
        return self.visible is not None or bool(self.uniform_heads) or self.silent_heads is not None

    def enter(self, index: int, states: Tensor) -> Tensor:
        """(B, T, D): `states`, as they enter layer `index`."""
        reached = index == self.layer or (self.every and index > self.layer)
        return self.states(states) if self.states is not None and reached else states


def drop_keys(dropped: Tensor, start: int = 0) -> Callable[[int, Tensor], Tensor]:
    """An `Intervention.visible`: from layer `start` on, no position but itself sees a dropped one, (B, T) bool."""
    return lambda layer, before: without_keys(before, dropped.to(before.device)) if layer >= start else before


def states_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The hidden states (B, T, D) that a layer is called with."""
    states: Tensor = args[0] if args else kwargs["hidden_states"]
    return states


def with_states(args: tuple[Any, ...], kwargs: dict[str, Any], states: Tensor) -> tuple[Any, dict[str, Any]]:
    """A layer's call with other hidden states."""
    return ((states, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": states})


class Interception:
    """What our attention function meets in one forward."""

    def __init__(self) -> None:
        self.observers: list[tuple[Rows, list[Observer]]] = []  # rows, and who looks at them
        self.intervention: Intervention | None = None  # what is changed; None = nothing
        self.layers_seen: set[int] = set()  # the layers whose attention came by


OPEN: WeakKeyDictionary[nn.Module, tuple[Interception, int]] = WeakKeyDictionary()
"""Attention modules of models that are scored now -> interception and layer. Keyed by module, so that several models,
and backward passes in other threads, do not meet."""


def intercept(own: Attention) -> Attention:
    """The attention function `own`, seen and changed. query (B, H, T, d); returns (B, T, H, d) and what `own` adds."""

    def attention(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
    ) -> tuple[Tensor, Any]:
        met: tuple[Interception, int] | None = kwargs.pop(ARGUMENT, None) or OPEN.get(module)
        if met is None:
            return own(module, query, key, value, attention_mask, **kwargs)
        interception, layer = met
        length, change, causal = query.shape[2], interception.intervention, _is_causal(module, kwargs)
        if key.shape[2] != length:
            raise UnsupportedModel(
                f"{type(module).__name__} in text layer {layer} attends to {key.shape[2]} keys from {length} "
                "positions; vlmsift reads self-attention only"
            )
        if change is not None and change.visible is not None:
            attention_mask = _changed_mask(change.visible, layer, query, attention_mask, causal)
        output, weights = own(module, query, key, value, attention_mask, **kwargs)  # (B, T, H, d)
        if change is not None and (heads := change.uniform_heads.get(layer)):
            means = visible_means(value, attention_mask, heads, count=query.shape[1], causal=causal)
            output.index_copy_(2, torch.tensor(heads).to(output.device, non_blocking=True), means)
        if change is not None and change.silent_heads is not None:
            output = output.masked_fill(change.silent_heads[layer].to(output.device)[:, None, :, None], 0)
        interception.layers_seen.add(layer)
        for rows, observers in interception.observers:
            if wanting := [observer for observer in observers if layer in observer.layers]:
                _refuse_not_modelled(module, kwargs)
                for part in _seen(rows, query, key, attention_mask, causal, kwargs):
                    for observer in wanting:
                        observer.see(layer, part)
        return output, weights

    return attention


def _seen(
    rows: Rows, query: Tensor, key: Tensor, mask: Tensor | None, causal: bool, kwargs: Mapping[str, Any]
) -> Iterator[Seen]:
    """What some rows attend to, on their device: where a model is spread over several, q and k come to the batch's."""
    place, length = rows.index.device, query.shape[2]
    if query.requires_grad or key.requires_grad:
        query, key = query.detach(), key.detach()
    query, key, mask = query.to(place), key.to(place), None if mask is None else mask.to(place)
    if mask is not None and mask.ndim == 2:  # kernels that mask padding on their own are given (B, T)
        mask = mask.bool()[:, None, None, :].expand(-1, 1, length, -1)  # (B, 1, T, T)
        mask = mask.tril() if causal else mask
    return attention_chunks(query, key, mask, rows, causal=causal, **_scores(query, kwargs))


def _scores(query: Tensor, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """How q and k become scores: arguments of `attention_chunks`."""
    return {"scaling": kwargs.get("scaling") or query.shape[-1] ** -0.5, "softcap": kwargs.get("softcap")}


def _is_causal(module: Any, kwargs: Mapping[str, Any]) -> bool:
    return bool(getattr(module, "is_causal", True) if kwargs.get("is_causal") is None else kwargs["is_causal"])


def _changed_mask(
    change: Callable[[int, Tensor], Tensor], layer: int, query: Tensor, mask: Tensor | None, causal: bool
) -> Tensor:
    """(B, 1, T, T): the mask with other keys visible, in the form (bool or additive) that it came in."""
    if mask is not None and mask.ndim == 2:
        raise UnsupportedModel(
            "dropping keys needs an attention that takes a whole mask; load the model with attn_implementation='sdpa'"
        )
    visible = change(layer, _all_visible(mask, query, causal))[:, None]
    if mask is None or mask.dtype == torch.bool:
        return visible
    return mask.expand(len(query), -1, -1, -1).masked_fill(~visible, torch.finfo(mask.dtype).min)  # additive


def _all_visible(mask: Tensor | None, query: Tensor, causal: bool) -> Tensor:
    """(B, T, T) bool: which keys each position may attend to; `visible_keys` of all rows."""
    batch, _, length, _ = query.shape
    if mask is not None:
        allowed = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
        return allowed[:, 0].expand(batch, -1, -1)
    seen = torch.ones((length, length), dtype=torch.bool, device=query.device)
    return (seen.tril() if causal else seen).expand(batch, -1, -1)


def _all_rows(query: Tensor) -> Rows:
    index = torch.arange(query.shape[2], device=query.device).expand(len(query), -1)  # (B, T)
    return Rows(index, torch.ones_like(index, dtype=torch.bool))


def _refuse_not_modelled(module: Any, kwargs: Mapping[str, Any]) -> None:
    if added := [name for name in NOT_MODELLED if kwargs.get(name) is not None]:
        raise UnsupportedModel(f"{type(module).__name__} gives its attention {added}, which vlmsift does not model yet")


def _plain_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Scoring's own: the fused kernel, the same for every model; what that cannot do is done here or refused."""
    _refuse_not_modelled(module, kwargs)
    if kwargs.get("softcap") is None:
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)[0], None
    # a soft cap on the scores, which no fused kernel offers here: chunk by chunk, each (B, H, R, d)
    repeated, causal = value.repeat_interleave(query.shape[1] // value.shape[1], 1), _is_causal(module, kwargs)
    chunks = attention_chunks(query, key, mask, _all_rows(query), causal=causal, **_scores(query, kwargs))
    parts = [seen.probabilities.to(value.dtype) @ repeated[:, :, : seen.probabilities.shape[-1]] for seen in chunks]
    return torch.cat(parts, 2).transpose(1, 2).contiguous(), None  # (B, T, H, d)


def training_name(before: str, model: str) -> str:
    """The name of our function around the attention implementation `before`, which is registered.

    Raises UsageError where it is ours already, UnsupportedModel where it cannot be watched.
    """
    functions, masks = AttentionInterface(), AttentionMaskInterface()
    if before.startswith(SCORING):
        raise UsageError(f"{model} is being augmented already, or scored; close that first")
    if before != "eager" and (before not in functions or before not in masks):
        raise UnsupportedModel(
            f"{model} runs attention {before!r}, which cannot be watched; load it with attn_implementation='sdpa'"
        )
    if (name := f"{SCORING}_{before}") not in functions:
        _register(name, intercept(_eager if before == "eager" else functions[before]), masks[before])
    return name


def _eager(module: Any, *arguments: Any, **kwargs: Any) -> tuple[Tensor, Any]:
    """The model's own eager attention, which its file defines and no table holds."""
    own: Attention = sys.modules[type(module).__module__].eager_attention_forward
    return own(module, *arguments, **kwargs)


def _register(name: str, function: Attention, mask: Callable[..., Any]) -> None:
    AttentionInterface.register(name, function)
    # without a mask function of the same name no mask is built at all, and causality and padding silently vanish
    AttentionMaskInterface.register(name, mask)


attention_forward = intercept(_plain_attention)
_register(SCORING, attention_forward, sdpa_mask)
