"""Vision towers that attend in windows, or image by image: one call for all windows of a length, not one for each.

In: a model. Out: the same numbers. Such a tower (Qwen-VL's, GLM's) packs all images into one sequence and says where
its windows end. Only to kernels named flash does it hand the sequence whole; with any other it calls attention window
by window, in Qwen2.5-VL over a thousand times for one image. Ours is named so that it gets the whole, and groups them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

GROUPED = "vlmsift_flash_windows"
"""The attention implementation of such a tower meanwhile; transformers looks for "flash" in the name."""

_Groups = tuple[list[Tensor], Tensor]
_KNOWN: Any = WeakTensorKeyDictionary()
"""Bounds of windows -> their groups. All layers of a forward are given the same tensor, so it is read once."""


@contextmanager
def grouped_windows(model: Any) -> Iterator[None]:
    """Have the towers of a model that attend by sdpa, window after window, attend to equal windows together."""
    configs = {id(config): config for config in map(_looping, model.modules()) if config is not None}.values()
    for config in configs:
        config._attn_implementation = GROUPED
    try:
        yield
    finally:
        for config in configs:
            config._attn_implementation = "sdpa"


def _looping(module: Any) -> Any:
    """The configuration of an attention module that would go window by window; None of any other module."""
    config = getattr(module, "config", None)
    if getattr(config, "_attn_implementation", None) != "sdpa":
        return None
    code: Any = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    asks = code is not None and "is_flash_attention_requested" in code.co_names
    return config if asks and "cu_seqlens" in code.co_varnames[: code.co_argcount] else None


def attend_in_windows(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Attention inside windows. query, key, value (1, H, T, d), T the patches of all images; returns (1, T, H, d).

    Args:
        kwargs: `cu_seq_lens_q` (windows + 1,) int, where each window begins and the last one ends.
    """
    bounds = kwargs.pop("cu_seq_lens_q")
    for name in ("cu_seq_lens_k", "max_length_q", "max_length_k"):  # what only flash kernels take
        kwargs.pop(name, None)
    if bounds not in _KNOWN:
        _KNOWN[bounds] = _groups(bounds)
    groups, back = _KNOWN[bounds]
    patches = [states[0].transpose(0, 1) for states in (query, key, value)]  # (T, H, d) each
    parts = []
    for places in groups:  # (windows, length)
        windows = (states[places].transpose(1, 2) for states in patches)  # (windows, H, length, d) each
        output, _ = sdpa_attention_forward(module, *windows, attention_mask, **kwargs)  # (windows, length, H, d)
        parts.append(output.flatten(0, 1))
    return torch.cat(parts)[back][None], None


def _groups(bounds: Tensor) -> _Groups:
    """Of each length of windows, the places of its patches (windows, length); and the order that puts all back (T,)."""
    starts: dict[int, list[int]] = {}
    for start, stop in pairwise(bounds.tolist()):  # the one wait for the device in a forward and sort of window
        if stop > start:
            starts.setdefault(stop - start, []).append(start)
    groups = [torch.tensor(firsts)[:, None] + torch.arange(length) for length, firsts in starts.items()]
    back = torch.cat([places.flatten() for places in groups]).argsort()
    return [places.to(bounds.device) for places in groups], back.to(bounds.device)


AttentionInterface.register(GROUPED, attend_in_windows)
# without a mask function of the same name no mask is built at all, where a tower wants one
AttentionMaskInterface.register(GROUPED, sdpa_mask)
