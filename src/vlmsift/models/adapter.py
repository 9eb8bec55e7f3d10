"""Any Hugging Face vision-language model behind one face.

In: a model's name or folder. Out: `Adapter`, which knows the text decoder's layers, its final norm and head, the image
token, and how to encode samples. Nothing here is per family; the few exceptions are values in quirks.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from vlmsift.errors import UnsupportedModel, UsageError
from vlmsift.models.encode import Encoder
from vlmsift.models.quirks import Quirk, quirk_of
from vlmsift.types import Batch, ImageRef

_PROCESSORS: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()
"""Model -> its processor, of those that `adapt` has opened: a training is handed the model alone."""


@dataclass(frozen=True)
class Adapter:
    """All that vlmsift knows about one VLM.

    Attributes:
        text: the text decoder, the module that owns `layers` and the final norm.
        layers: its L decoder layers, in order.
        norm: the final norm, applied to the last layer's output.
        image_token_id: the id that marks an image feature's place in `input_ids`.
        context: longest sequence, in tokens.
    """

    model: Any
    processor: Any
    text: Any
    layers: nn.ModuleList
    norm: nn.Module
    image_token_id: int
    context: int
    quirk: Quirk
    name: str
    revision: str | None = None

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
        outputs = self.model.base_model(**inputs, use_cache=False, return_dict=True)
        last: Tensor = outputs.last_hidden_state
        return last

    def head(self, hidden: Tensor) -> Tensor:
        """(N, D) final hidden states -> (N, V) float32 logits, with the model's own soft cap if it has one."""
        logits: Tensor = self.model.get_output_embeddings()(hidden).float()
        cap = getattr(self.text_config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def inputs(self, batch: Batch) -> dict[str, Any]:
        """The batch's inputs on the model's device, floating ones in its dtype.

        A right-padded batch needs no padding mask: no position sees what comes after it. Leaving it out lets attention
        run its causal kernel. Models that attend in both directions build their own mask and keep it.
        """
        weights = next(self.model.get_input_embeddings().parameters())
        moved = {
            name: value.to(self.device, weights.dtype) if value.is_floating_point() else value.to(self.device)
            for name, value in batch.inputs.items()
        }
        right_padded = bool((batch.valid[:, :-1] >= batch.valid[:, 1:]).all())
        if right_padded and "token_type_ids" not in moved:
            moved.pop("attention_mask", None)
        return moved

    def encoder(self, open_image: Callable[[ImageRef], Any]) -> Encoder:
        """What turns samples into batches; safe to send to worker processes."""
        return Encoder(self.processor, self.image_token_id, self.quirk, self.context, open_image)


def open_model(
    name: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    chat_template: str | None = None,
    trust_remote_code: bool = False,
) -> Adapter:
    """Load a model and its processor through the Auto classes, ready to be measured (eval mode, frozen).

    Args:
        device: "auto" (CUDA if there is one), "cpu", "cuda:1", or "spread" over all devices (needs accelerate).
        dtype: "auto" (the checkpoint's own, float32 on a CPU where that is float16), "float32", "bfloat16", "float16".
        chat_template: Jinja text to use instead of the processor's own.

    Raises:
        UsageError: no such model, or an argument that cannot be meant.
        UnsupportedModel: the model loads, but vlmsift cannot look inside it correctly.
    """
    import transformers

    from vlmsift.models.silence_transformers import silence_transformers

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kinds: dict[str, Any] = {
        "auto": "auto",
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
    }
    if dtype not in kinds:
        raise UsageError(f"dtype {dtype!r} is unknown; choose one of {', '.join(kinds)}")
    if not Path(name).exists() and (str(name).count("/") != 1 or str(name).startswith((".", "~", "/"))):
        raise UsageError(f"there is no model folder {str(name)!r}; check the path, or give a hub name (owner/model)")
    where: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        with silence_transformers():
            processor = transformers.AutoProcessor.from_pretrained(name, **where)
            model, loaded = transformers.AutoModelForImageTextToText.from_pretrained(
                name,
                dtype=kinds[dtype],
                output_loading_info=True,
                **where,
                **({"device_map": "auto"} if device == "spread" else {}),
            )
    except Exception as error:  # loaders raise many kinds: broken JSON, broken weights, a missing package
        raise _explained(str(name), error) from error
    if missing := sorted(loaded["missing_keys"]):
        raise UnsupportedModel(
            f"{name}: its weights lack {len(missing)} tensors that its configuration asks for ({', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}); they would be drawn at random. Give a complete checkpoint"
        )
    if device != "spread":
        try:
            model = model.to(device)
        except (RuntimeError, AssertionError) as error:
            raise UsageError(f"device {device!r} cannot be used here: {error}") from error
    if device == "cpu" and dtype == "auto" and model.dtype == torch.float16:
        model = model.float()
    if chat_template is not None:
        processor.chat_template = chat_template
    return adapt(model, processor, name=str(name), revision=revision or getattr(model.config, "_commit_hash", None))


def adapt(model: Any, processor: Any, *, name: str = "model in memory", revision: str | None = None) -> Adapter:
    """Find the parts of a loaded model. The model is put into eval mode; its weights are never changed.

    Raises:
        UnsupportedModel: a part is missing; the message says which.
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
    text = _text_decoder(model, config.get_text_config())
    norm = getattr(text, "norm", None)
    if norm is None:
        raise UnsupportedModel(f"{name}: the text decoder {type(text).__name__} has no final `norm`")
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


def _text_decoder(model: Any, text_config: Any) -> Any:
    """The module that runs the text layers: it has that configuration, and as many `layers` as it says."""
    module: Any
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


def _explained(name: str, error: Exception) -> Exception:
    """A loading failure as a sentence that says what to do."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    text = str(error).lower()
    if "torchvision" in text:
        return UnsupportedModel(f"{name}: its processor needs torchvision: pip install torchvision ({reason})")
    if "trust_remote_code" in text:
        return UnsupportedModel(f"{name}: it runs code of its own; pass --trust-remote-code if you trust its author")
    if isinstance(error, ImportError):
        return UnsupportedModel(f"{name}: a package is missing: {reason}")
    if Path(name).exists() and not isinstance(error, OSError):
        return UnsupportedModel(f"{name}: it cannot be opened as an image-text model: {reason}")
    return UsageError(
        f"no model could be loaded from {name!r}: {reason} Give a folder written by save_pretrained, or a model's full "
        "name on the Hugging Face hub (owner/name)."
    )
