"""In: a loaded model and its processor. Out: `Adapter`, which knows the text decoder's layers, its final norm and head,
the image token, and how to encode samples. Nothing here is per family; the few exceptions are values in quirks.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from vlmsift.errors import UnsupportedModel
from vlmsift.models.encode import Encoder
from vlmsift.models.quirks import Quirk, quirk_of
from vlmsift.types import Batch, ImageRef

FINAL_NORMS = ("norm", "embedding_norm", "final_layer_norm", "final_layernorm")
"""What text decoders call the norm behind their last layer."""
CROSS_ATTENTION = ("cross_attn", "crossattention", "encoder_attn")
"""What text decoders call a module that looks at the image beside the text."""
_CROSSED = (
    "{}: {} shows its text layers the image by cross-attention; vlmsift reads models that put image features among the "
    "text's positions"
)
_PROCESSORS: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()
"""Model -> its processor, of those that `adapt` has opened: a training is handed the model alone."""


@dataclass(frozen=True)
class Adapter:
    """All that vlmsift knows about one VLM."""

    model: Any
    processor: Any
    text: Any  # the text decoder, the module that owns `layers` and the final norm
    layers: nn.ModuleList  # its L decoder layers, in order
    norm: nn.Module  # the final norm, applied to the last layer's output
    image_token_id: int  # marks an image feature's place in `input_ids`
    context: int  # longest sequence, in tokens
    quirk: Quirk
    name: str
    revision: str | None = None

    def __repr__(self) -> str:
        return f"Adapter({self.name!r})"

    @property
    def depth(self) -> int:
        """L, the number of text layers."""
        return len(self.layers)

    @property
    def device(self) -> torch.device:
        """Where inputs go: the device of the token embedding."""
        device: torch.device = self.model.device
        return device

    @property
    def text_config(self) -> Any:
        """The text decoder's configuration."""
        return self.model.config.get_text_config()

    def backbone(self, batch: Batch, inputs: dict[str, Any]) -> Tensor:
        """Run everything below the head: (B, T, D), after the final norm. Images are encoded here, once."""
        base = self.model.base_model
        if base is not self.model:
            last: Tensor = base(**inputs, use_cache=False, return_dict=True).last_hidden_state  # (B, T, D)
            return last

        # a model without a body of its own would go on to (B, T, V) logits, so it is left behind its text decoder
        def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            raise _Left(output[0])  # (B, T, D)

        handle = self.text.register_forward_hook(leave)
        try:
            self.model(**inputs, use_cache=False, return_dict=True)
        except _Left as left:
            hidden: Tensor = left.args[0]  # (B, T, D)
            return hidden
        finally:
            handle.remove()
        raise UnsupportedModel(f"{self.name}: {type(self.model).__name__} did not run its text decoder")

    def head(self, hidden: Tensor) -> Tensor:
        """(N, D) final hidden states -> (N, V) float32 logits, scaled and capped as the model's own forward does."""
        logits: Tensor = self.model.get_output_embeddings()(hidden).float()  # (N, V)
        if divisor := self._read_in_forward("logits_scaling"):  # Granite
            logits = logits / divisor
        if factor := self._read_in_forward("logit_scale"):  # Cohere; its image models have the value, but leave it
            logits = logits * factor
        cap = self._read_in_forward("final_logit_softcapping")  # Gemma
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def _read_in_forward(self, name: str) -> float | None:
        """A value of the text config, if the model's own forward reads one of that name.

        A text model that is part of several image models leaves its values in all their configurations; whether they
        are applied to the logits is decided by each image model's code.
        """
        code = getattr(inspect.unwrap(type(self.model).forward), "__code__", None)
        read = code is not None and name in (*code.co_names, *code.co_consts)
        value: float | None = getattr(self.text_config, name, None) if read else None
        return value

    def inputs(self, batch: Batch) -> dict[str, Any]:
        """The batch's inputs on the model's device, floating ones in its dtype.

        A right-padded batch needs no padding mask: no position sees what comes after it. Leaving it out lets attention
        run its causal kernel. Models that attend in both directions build their own mask and keep it.
        """
        dtype = next(self.model.get_input_embeddings().parameters()).dtype  # that the first layer expects
        device = self.device
        moved = {
            name: value.to(device, dtype if value.is_floating_point() else value.dtype, non_blocking=True)
            for name, value in batch.inputs.items()
        }
        valid = batch.on_host.valid
        right_padded = bool((valid[:, :-1] >= valid[:, 1:]).all())  # valid, then padding
        if right_padded and "token_type_ids" not in moved:
            moved.pop("attention_mask", None)
        return moved

    def encoder(self, open_image: Callable[[ImageRef], Any]) -> Encoder:
        """What turns samples into batches; safe to send to worker processes."""
        return Encoder(self.processor, self.image_token_id, self.quirk, self.context, open_image)


def adapt(model: Any, processor: Any, *, name: str = "model in memory", revision: str | None = None) -> Adapter:
    """Find the parts of a loaded model. The model is put into eval mode; its weights are never changed.

    Raises UnsupportedModel where a part is missing; the message says which.
    """
    adapter = look_inside(model, processor, name=name, revision=revision)
    if getattr(processor, "tokenizer", None) is None:
        raise UnsupportedModel(
            f"{name}: its processor {type(processor).__name__} has no tokenizer, so it takes no text"
        )
    if not processor.tokenizer.is_fast:
        raise UnsupportedModel(f"{name}: its tokenizer gives no character offsets; a fast tokenizer is needed")
    if not adapter.quirk.prefix_suffix and not getattr(processor, "chat_template", None):
        raise UnsupportedModel(
            f"{name}: its processor has no chat template, so the trained prompt is unknown; give one with "
            "--chat-template FILE"
        )
    model.eval().requires_grad_(False)
    _PROCESSORS[model] = processor
    return adapter


def look_inside(
    model: Any, processor: Any = None, *, name: str = "model in memory", revision: str | None = None
) -> Adapter:
    """The parts of a model that is being trained: as `adapt`, but nothing is frozen or switched.

    Without a processor the adapter cannot encode; that of a model which `adapt` has opened is known.
    """
    config = model.config
    refuse_config(config, name)
    text = _find_text_decoder(model, config.get_text_config())
    norm = next((getattr(text, norm) for norm in FINAL_NORMS if hasattr(text, norm)), None)
    if norm is None:
        raise UnsupportedModel(f"{name}: the text decoder {type(text).__name__} has no final `norm`")
    if any(part.rpartition(".")[2] in CROSS_ATTENTION for part, _ in text.named_modules()):
        raise UnsupportedModel(_CROSSED.format(name, type(model).__name__))
    image_token_id = getattr(config, "image_token_id", None) or getattr(config, "image_token_index", None)
    if image_token_id is None:
        raise UnsupportedModel(
            f"{name}: {type(config).__name__} names no image token; vlmsift reads vision-language models that mark "
            "image features in `input_ids`"
        )
    processor = _PROCESSORS.get(model) if processor is None else processor
    context = getattr(config.get_text_config(), "max_position_embeddings", None) or 1 << 30
    quirk = quirk_of(config.model_type)
    return Adapter(model, processor, text, text.layers, norm, image_token_id, context, quirk, name, revision)


def refuse_config(config: Any, name: str) -> None:
    """Raises UnsupportedModel for an encoder-decoder, cross-attention to the image, or no layers: no weight is read."""
    text_config, kind = config.get_text_config(), type(config).__name__
    if any(getattr(part, "is_encoder_decoder", False) for part in (config, text_config)):
        raise UnsupportedModel(f"{name}: {kind} is an encoder-decoder; vlmsift reads models that only decode")
    if getattr(text_config, "cross_attention_layers", None):
        raise UnsupportedModel(_CROSSED.format(name, kind))
    if getattr(text_config, "num_hidden_layers", None) == 0:
        raise UnsupportedModel(
            f"{name}: its configuration says 0 text layers (num_hidden_layers); there is nothing in it"
        )


class _Left(Exception):
    """The way out of a forward whose remainder nobody needs; it carries (B, T, D)."""


def _find_text_decoder(model: Any, text_config: Any) -> Any:
    """The module that runs the text layers: it has that configuration, and as many `layers` as it says."""
    module: Any  # `nn.Module` knows neither layers nor config
    for module in model.modules():
        layers = getattr(module, "layers", None)
        if (
            isinstance(layers, nn.ModuleList)
            and getattr(module, "config", None) is not None
            and type(module.config) is type(text_config)
            and len(layers) == text_config.num_hidden_layers
        ):
            return module
    raise UnsupportedModel(
        f"{type(model).__name__}: no text decoder with {getattr(text_config, 'num_hidden_layers', '?')} `layers` was "
        "found in it"
    )
