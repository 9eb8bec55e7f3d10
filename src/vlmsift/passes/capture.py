"""Look inside a model while it runs, and leave it as it was.

In: an adapter. While a `Capture` is open, the text layers' attention goes through `attention_forward`, which computes
what the model would have computed and lets observers see it; hooks record what entered each layer, so that the decoder
can be run again from any depth. On exit, also after an exception, everything is put back.

The attention implementation is chosen for the text config alone: vision towers keep theirs, but for those that would
attend window by window (`models/towers.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from vlmsift.errors import UnsupportedModel
from vlmsift.models import Adapter
from vlmsift.models.towers import grouped_windows
from vlmsift.passes.intervene import OPEN, SCORING, Interception, Intervention, states_of, with_states


@dataclass
class Trace:
    """What one forward left behind."""

    last: Tensor | None = None  # (B, T, D) after the final norm
    entering: dict[int, Tensor] = field(default_factory=dict)  # depth -> (B, T, D), the states that entered that layer
    calls: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=dict)  # layer -> what else it got
    decoder_call: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})  # the arguments of the text decoder itself
    resumable_from: int = 0
    """Smallest depth from which running layer after layer gives the model's own result; below it the decoder adds
    features between its layers (Qwen3-VL), so it is run as a whole."""


class Capture(Interception):
    """Context manager around a model, and what each of its forwards meets meanwhile; see the module's text.

    Raises UnsupportedModel on entry, if the model does not let its attention be replaced.
    """

    def __init__(self, adapter: Adapter) -> None:
        super().__init__()
        self.adapter = adapter
        self._undo = ExitStack()

    def __enter__(self) -> Capture:
        model: Any = self.adapter.model
        before = self.adapter.text.config._attn_implementation
        with ExitStack() as undo:
            undo.callback(_set_training, [module for module in model.modules() if module.training])
            model.eval()
            if before != SCORING:
                set_text_attention(self.adapter, SCORING)
                undo.callback(set_text_attention, self.adapter, before)
            if self.adapter.text.config._attn_implementation != SCORING:
                raise UnsupportedModel(
                    f"{self.adapter.name}: {type(model).__name__} does not let its text attention be replaced; its "
                    "code does not go through transformers' AttentionInterface"
                )
            undo.enter_context(grouped_windows(model))
            self._watch(undo)
            for module in model.modules():
                if hasattr(module, "rope_deltas"):  # Qwen-VL leaves the last batch's here, for generation
                    undo.callback(setattr, module, "rope_deltas", module.rope_deltas)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._undo.close()

    def _watch(self, undo: ExitStack) -> None:
        """Have the layers' attention modules report here; whoever watched them before gets them back on exit."""
        modules = {module: index for index, layer in enumerate(self.adapter.layers) for module in layer.modules()}
        before = {module: OPEN[module] for module in modules if module in OPEN}

        def give_back() -> None:
            for module in modules:
                OPEN.pop(module, None)
            OPEN.update(before)

        undo.callback(give_back)
        OPEN.update({module: (self, index) for module, index in modules.items()})

    def run(self, forward: Callable[[], Tensor], depths: frozenset[int]) -> Trace:
        """Call `forward` and record the states entering each of `depths` and every later layer's arguments."""
        trace = Trace()
        outputs: dict[int, Any] = {}  # layer -> (B, T, D), what it gave out

        def entering(index: int) -> Callable[..., None]:
            def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                states = states_of(args, kwargs)
                if index and outputs.pop(index - 1) is not states:  # the decoder has put others between the layers
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

        with ExitStack() as undo:
            if depths:
                undo.callback(self.adapter.text.register_forward_pre_hook(decoder, with_kwargs=True).remove)
                for index, layer in enumerate(self.adapter.layers):
                    undo.callback(layer.register_forward_pre_hook(entering(index), with_kwargs=True).remove)
                    undo.callback(layer.register_forward_hook(leaving(index)).remove)
            trace.last = forward()
        return trace

    def resume(self, trace: Trace, change: Intervention) -> Tensor:
        """Run the decoder again from `change.layer`, which must be recorded: (B, T, D) after the final norm.

        Costs (L - layer) / L of a text forward, or a whole one where the decoder adds features above the layer.
        """
        self.intervention = change
        try:
            if change.layer < trace.resumable_from:
                return self._rerun_decoder(trace, change)
            states = trace.entering[change.layer]  # (B, T, D)
            for index in range(change.layer, self.adapter.depth):
                args, kwargs = trace.calls[index]
                output = self.adapter.layers[index](change.enter(index, states), *args, **kwargs)
                states = output[0] if isinstance(output, tuple) else output
            last: Tensor = self.adapter.norm(states)  # (B, T, D)
            return last
        finally:
            self.intervention = None

    def _rerun_decoder(self, trace: Trace, change: Intervention) -> Tensor:
        def entering(index: int) -> Callable[..., Any]:
            def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                recorded = trace.entering[index] if index == change.layer else states_of(args, kwargs)
                return with_states(args, kwargs, change.enter(index, recorded))

            return hook

        with ExitStack() as undo:
            for index in range(change.layer, self.adapter.depth):
                hook = self.adapter.layers[index].register_forward_pre_hook(entering(index), with_kwargs=True)
                undo.callback(hook.remove)
            args, kwargs = trace.decoder_call
            last: Tensor = self.adapter.text(*args, **kwargs)[0]  # (B, T, D), the final norm is part of it
            return last


def _set_training(modules: list[nn.Module]) -> None:
    """Put single modules back into train mode; `Module.train` would reach their children too."""
    for module in modules:
        module.training = True


def set_text_attention(adapter: Adapter, name: str) -> None:
    """Choose the attention implementation of the text decoder alone."""
    model: Any = adapter.model
    config = model.config
    key = next((key for key in config.sub_configs if getattr(config, key, None) is adapter.text_config), None)
    model.set_attn_implementation({key: name} if key else name)
