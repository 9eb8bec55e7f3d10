"""A model's name or folder -> an adapter, or a sentence that says what to do instead.

What can be known without the weights is asked first: whether there is such a model, what its configuration says, and
whether the device takes it.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from vlmsift.errors import MissingExtra, UnsupportedModel, UsageError, VlmsiftError
from vlmsift.models.adapter import Adapter, adapt, refuse_config
from vlmsift.models.silence_transformers import silence_transformers
from vlmsift.specs import ModelSpec, as_spec

HUB_SECONDS = 5.0
"""How long the hub may take to say whether it has a model."""


def open_model(model: str | Path | ModelSpec) -> Adapter:
    """Load a model and its processor through the Auto classes, ready to be measured (eval mode, frozen).

    Args:
        model: a folder or hub name, or a spec. Its device "auto" is CUDA if there is one, "spread" all devices (needs
            accelerate); its precision "auto" the checkpoint's own, float32 on a CPU where that is float16.

    Raises:
        UsageError: no such model, or an argument that cannot be meant.
        UnsupportedModel: the model loads, but vlmsift cannot look inside it correctly.
    """
    import transformers

    spec: ModelSpec = as_spec(ModelSpec, model)
    check_model(spec)
    name, dtype, device = spec.one, spec.dtype, spec.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    where: dict[str, Any] = {"revision": spec.revision, "trust_remote_code": spec.trust_remote_code}
    try:
        with silence_transformers():
            processor = transformers.AutoProcessor.from_pretrained(name, **where)
            loaded_model, loaded = transformers.AutoModelForImageTextToText.from_pretrained(
                name,
                dtype=dtype,
                output_loading_info=True,
                **where,
                **({"device_map": "auto"} if device == "spread" else {}),
            )
    except Exception as error:  # loaders raise many kinds: broken JSON, broken weights, a missing package
        raise _explain(str(name), error) from error
    if missing := sorted(loaded["missing_keys"]):
        raise UnsupportedModel(
            f"{name}: its weights lack {len(missing)} tensors that its configuration asks for ({', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}); they would be drawn at random. Give a complete checkpoint"
        )
    if device != "spread":
        try:
            loaded_model = loaded_model.to(device)
        except RuntimeError as error:  # out of memory
            raise UsageError(f"device {device!r} cannot be used here: {error}") from error
    if device == "cpu" and dtype == "auto" and loaded_model.dtype == torch.float16:
        loaded_model = loaded_model.float()
    if spec.template is not None:
        processor.chat_template = spec.template
    revision = spec.revision or getattr(loaded_model.config, "_commit_hash", None)
    return adapt(loaded_model, processor, name=str(name), revision=revision)


def check_model(spec: ModelSpec, *, devices: tuple[str, ...] = ()) -> None:
    """Refuse what can be refused of a model without its weights.

    Args:
        devices: where only these can be used, as in a training; () = any.

    Raises:
        UsageError: no such model, device or chat template. UnsupportedModel: its configuration says that it cannot be
            looked into.
    """
    if devices and spec.device not in devices:
        raise UsageError(
            f"device {spec.device!r}: one process trains on one device, {' or '.join(devices)}; choose a GPU with "
            "CUDA_VISIBLE_DEVICES"
        )
    if spec.device != "auto":
        _refuse_device(spec.device)
    if spec.template == "":
        raise UsageError(f"the chat template {str(spec.chat_template)!r} is empty; give Jinja text, or leave it out")
    _refuse_model(str(spec.one), load_config(spec.one, spec.revision, spec.trust_remote_code), spec.revision)


def load_config(name: str | Path, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """A model's configuration. Raises UsageError where there is no such model, UnsupportedModel if it is unreadable."""
    import transformers

    if not Path(name).exists():
        _ask_the_hub(str(name), revision)
    try:
        with silence_transformers():
            return transformers.AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
    except Exception as error:  # loaders raise many kinds
        raise _explain(str(name), error) from error


def _ask_the_hub(name: str, revision: str | None) -> None:
    """Raise UsageError where the hub has no such model, or does not answer; what is cached needs no asking.

    The loaders ask again and again, file by file and with pauses, before they say so.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    if name.count("/") != 1 or name.startswith((".", "~", "/")):
        raise UsageError(f"there is no model folder {name!r}; check the path, or give a hub name (owner/model)")
    try:
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
        if not isinstance(cached, str) and not constants.is_offline_mode():
            get_hf_file_metadata(hf_hub_url(name, "config.json", revision=revision), timeout=HUB_SECONDS)
    except Exception as error:  # no such model, no such revision, no access, no network
        raise _explain(name, error) from error


def _refuse_device(device: str) -> None:
    """Raise UsageError where a tensor cannot be computed with on that device, MissingExtra where that needs more."""
    if device == "spread":
        if find_spec("accelerate") is None:
            raise MissingExtra("a model spread over all devices needs accelerate: pip install 'vlmsift[gpu]'")
        return
    try:
        kind = torch.empty(0, device=device).device.type
    except (RuntimeError, AssertionError) as error:  # no such device, or a PyTorch that was built without it
        raise UsageError(f"device {device!r} cannot be used here: {error}") from error
    if kind == "meta":
        raise UsageError("device 'meta' holds shapes and no numbers; choose auto, cpu, cuda, cuda:1 or spread")


def _refuse_model(name: str, config: Any, revision: str | None) -> None:
    """Raise UnsupportedModel where the configuration tells that the weights need not be read."""
    import transformers

    kind = type(config)
    if kind not in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and not getattr(config, "auto_map", None):
        text_only = kind in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
        raise UnsupportedModel(
            f"{name}: {config.model_type} is {'a text-only model' if text_only else 'not an image-text model'}; give a "
            "vision-language model (it scores samples without images too)"
        )
    written = kind.get_config_dict(name, revision=revision)[0]
    # without it a model of the class's default size, billions of weights, would be built and drawn at random;
    # old configurations have the text model's values beside the others
    if "text_config" in kind.sub_configs and not {"text_config", "num_hidden_layers"} & set(written):
        raise UnsupportedModel(f"{name}: its config.json has no text_config; give a complete checkpoint")
    try:
        refuse_config(config, name)
    except ValueError as error:  # several text models in one
        raise UnsupportedModel(f"{name}: {error}") from error


def _explain(name: str, error: Exception) -> VlmsiftError:
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
        f"no model could be loaded from {name!r}: {reason.rstrip('.')}. Give a folder written by save_pretrained, or a "
        "model's full name on the Hugging Face hub (owner/name)."
    )
