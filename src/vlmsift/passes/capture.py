"""Look inside a model while it runs, and leave it as it was.

In: an adapter. While a `Capture` is open, the text layers' attention goes through `attention_forward`, which computes
what the model would have computed and lets observers see it; hooks record what entered each layer, so that the decoder
can be run again from any depth. On exit, also after an exception, everything is put back.

The attention implementation is chosen for the text config alone: vision towers keep theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from vlmsift.errors import UnsupportedModel
from vlmsift.models import Adapter
from vlmsift.passes.attention import Observer, Rows, attention_chunks, visible_keys, visible_means, without_keys

NAME = "vlmsift"
NOT_MODELLED = ("s_aux", "position_bias")
"""Learned sinks and biases on the scores: our probabilities would be wrong where a model has them."""
_WATCHED: WeakKeyDictionary[nn.Module, tuple[Capture, int]] = WeakKeyDictionary()
"""Attention modules of models that are open now -> their capture and layer. Keyed by module, so captures of several
models, and backward passes in other threads, do not meet."""


@dataclass
class Trace:
    """What one forward left behind.

    Attributes:
        last: (B, T, D) after the final norm.
        entering: depth -> (B, T, D), the states that entered that layer.
        calls: per layer, the arguments beside the hidden states.
        decoder_call: the arguments of the text decoder itself.
        resumable_from: smallest depth from which running layer after layer gives the model's own result; below it the
            decoder adds features between its layers (Qwen3-VL), so it is run as a whole.
    """

    last: Tensor | None = None
    entering: dict[int, Tensor] = field(default_factory=dict)
    calls: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=dict)
    decoder_call: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
    resumable_from: int = 0


class Capture:
    """Context manager around a model; see the module's text.

    Raises:
        UnsupportedModel: on entry, if the model does not let its attention be replaced.
    """

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.observers: list[tuple[Rows, list[Observer]]] = []
        self.dropped_keys: Tensor | None = None  # (B, T) bool: keys that no other position may see
        self.uniform_heads: Mapping[int, tuple[int, ...]] = {}  # layer -> heads that look at all visible keys alike
        self.layers_seen: set[int] = set()
        self._undo = ExitStack()

    def __enter__(self) -> Capture:
        model: Any = self.adapter.model
        before = self.adapter.text.config._attn_implementation
        with ExitStack() as undo:
            undo.callback(_set_training, [module for module in model.modules() if module.training])
            model.eval()
            if before != NAME:
                set_text_attention(self.adapter, NAME)
                undo.callback(set_text_attention, self.adapter, before)
            if self.adapter.text.config._attn_implementation != NAME:
                raise UnsupportedModel(
                    f"{self.adapter.name}: {type(model).__name__} does not let its text attention be replaced; its "
                    "code does not go through transformers' AttentionInterface"
                )
            self._watch(undo)
            for module in model.modules():
                if hasattr(module, "rope_deltas"):  # Qwen-VL leaves the last batch's here, for generation
                    undo.callback(setattr, module, "rope_deltas", module.rope_deltas)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def _watch(self, undo: ExitStack) -> None:
        """Have the layers' attention modules report here; whoever watched them before gets them back on exit."""
        modules = {module: index for index, layer in enumerate(self.adapter.layers) for module in layer.modules()}
        before = {module: _WATCHED[module] for module in modules if module in _WATCHED}

        def give_back() -> None:
            for module in modules:
                _WATCHED.pop(module, None)
            _WATCHED.update(before)

        undo.callback(give_back)
        _WATCHED.update({module: (self, index) for module, index in modules.items()})

    def run(self, forward: Callable[[], Tensor], depths: frozenset[int], *, record: bool = True) -> Trace:
        """Call `forward` and record the states entering each of `depths` and every later layer's arguments."""
        trace = Trace()
        outputs: dict[int, Any] = {}
        handles = []

        def entering(index: int) -> Callable[..., None]:
            def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                states = args[0] if args else kwargs["hidden_states"]
                if index and outputs.pop(index - 1) is not states:
                    trace.resumable_from = index
                trace.calls[index] = (args[1:], {k: v for k, v in kwargs.items() if k != "hidden_states"})
                if index in depths:
                    trace.entering[index] = states

            return hook

        def leaving(index: int) -> Callable[..., None]:
            def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
                outputs[index] = output[0] if isinstance(output, tuple) else output

            return hook

        def decoder(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            trace.decoder_call = (args, dict(kwargs))

        try:
            if record and depths:
                handles.append(self.adapter.text.register_forward_pre_hook(decoder, with_kwargs=True))
                for index, layer in enumerate(self.adapter.layers):
                    handles.append(layer.register_forward_pre_hook(entering(index), with_kwargs=True))
                    handles.append(layer.register_forward_hook(leaving(index)))
            trace.last = forward()
        finally:
            for handle in handles:
                handle.remove()
        return trace

    def resume(self, trace: Trace, depth: int, states: Tensor) -> Tensor:
        """Run the decoder from layer `depth` on changed states: (B, T, D) after the final norm.

        Costs (L - depth) / L of a text forward, or a whole one where the decoder adds features below `depth`.
        """
        if depth < trace.resumable_from:
            return self._rerun_decoder(trace, depth, states)
        for index in range(depth, self.adapter.depth):
            args, kwargs = trace.calls[index]
            output = self.adapter.layers[index](states, *args, **kwargs)
            states = output[0] if isinstance(output, tuple) else output
        last: Tensor = self.adapter.norm(states)
        return last

    def _rerun_decoder(self, trace: Trace, depth: int, states: Tensor) -> Tensor:
        def replace(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
            return ((states, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": states})

        handle = self.adapter.layers[depth].register_forward_pre_hook(replace, with_kwargs=True)
        try:
            args, kwargs = trace.decoder_call
            last: Tensor = self.adapter.text(*args, **kwargs)[0]
            return last
        finally:
            handle.remove()


def attention_forward(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """The model's attention, with observers. query (B, H, T, d); returns (B, T, H, d) and no weights."""
    watched = _WATCHED.get(module)
    capture, layer = watched if watched else (None, -1)
    causal = bool(getattr(module, "is_causal", True) if kwargs.get("is_causal") is None else kwargs["is_causal"])
    if added := [name for name in NOT_MODELLED if kwargs.get(name) is not None]:
        raise UnsupportedModel(f"{type(module).__name__} gives its attention {added}, which vlmsift does not model yet")
    if capture is not None and key.shape[2] != query.shape[2]:
        raise UnsupportedModel(
            f"{type(module).__name__} in text layer {layer} attends to {key.shape[2]} keys from {query.shape[2]} "
            "positions; vlmsift reads self-attention only"
        )
    if capture is not None and capture.dropped_keys is not None:
        attention_mask = _without_keys(attention_mask, capture.dropped_keys.to(query.device), causal)
    scaling = kwargs.get("scaling") or query.shape[-1] ** -0.5
    softcap = kwargs.get("softcap")
    if softcap is None:
        output = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)[0]
    else:
        output = _capped(query, key, value, attention_mask, scaling=scaling, causal=causal, softcap=softcap)
    if capture is not None and (heads := capture.uniform_heads.get(layer)):
        output[:, :, list(heads)] = visible_means(value, attention_mask, heads, count=query.shape[1], causal=causal)
    if capture is not None:
        capture.layers_seen.add(layer)
        for rows, observers in capture.observers:
            wanting = [observer for observer in observers if layer in observer.layers]
            if not wanting:
                continue
            # where a model is spread over devices, its layers' q and k come to the device of the batch
            place = rows.index.device
            q, k, mask = query.to(place), key.to(place), None if attention_mask is None else attention_mask.to(place)
            for seen in attention_chunks(q, k, mask, rows, scaling=scaling, causal=causal, softcap=softcap):
                for observer in wanting:
                    observer.see(layer, seen)
    return output, None


def _set_training(modules: list[nn.Module]) -> None:
    """Put single modules back into train mode; `Module.train` would reach their children too."""
    for module in modules:
        module.training = True


def _without_keys(mask: Tensor | None, dropped: Tensor, causal: bool) -> Tensor:
    """The mask (B, 1, T, T) without some keys."""
    length = dropped.shape[1]
    everything = torch.arange(length, device=dropped.device).expand(len(dropped), -1)
    visible = visible_keys(mask, Rows(everything, torch.ones_like(dropped)), length, causal)
    return without_keys(visible, dropped)[:, None]


def _capped(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **how: Any) -> Tensor:
    """Attention with a soft cap on its scores, which no fused kernel offers here: chunk by chunk."""
    batch, heads, length, _ = query.shape
    index = torch.arange(length, device=query.device).expand(batch, -1)
    repeated = value.repeat_interleave(heads // value.shape[1], 1)
    parts = [
        seen.probabilities.to(value.dtype) @ repeated[:, :, : seen.probabilities.shape[-1]]
        for seen in attention_chunks(query, key, mask, Rows(index, torch.ones_like(index, dtype=torch.bool)), **how)
    ]
    return torch.cat(parts, 2).transpose(1, 2).contiguous()


def set_text_attention(adapter: Adapter, name: str) -> None:
    """Choose the attention implementation of the text decoder alone."""
    model: Any = adapter.model
    config = model.config
    key = next((key for key in config.sub_configs if getattr(config, key, None) is adapter.text_config), None)
    model.set_attn_implementation({key: name} if key else name)


AttentionInterface.register(NAME, attention_forward)
# without a mask function of the same name no mask is built at all, and causality and padding silently vanish
AttentionMaskInterface.register(NAME, sdpa_mask)
