"""Which model made a run's numbers. In: an adapter. Out: a small dict that differs when its numbers would."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from vlmsift.models.adapter import Adapter
from vlmsift.models.opening import load_config


def fingerprint(adapter: Adapter) -> dict[str, Any]:
    """Name, revision, precision, and digests of weights and processor.

    The weights' digest reads a spread of 64 values of every tensor, so that it costs the same for any size; a fine-tune
    changes them nearly all. It is no proof against a forger.
    """
    digest = hashlib.sha256()
    for name, tensor in adapter.model.state_dict().items():
        flat = tensor.detach().reshape(-1)  # (values,)
        values = flat[:: max(1, len(flat) // 64)].double().cpu().numpy()
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + values.tobytes())
    processor: Any = adapter.processor
    seen = {
        "template": getattr(processor, "chat_template", None) or processor.tokenizer.chat_template,
        "image": processor.image_processor.to_dict() if hasattr(processor, "image_processor") else None,
        "tokens": sorted(processor.tokenizer.get_vocab().items()),
        "class": type(processor).__name__,
    }
    text = json.dumps(seen, sort_keys=True, default=str)
    return {
        "name": adapter.name,
        "revision": adapter.revision,
        "family": adapter.model.config.model_type,
        "dtype": str(next(adapter.model.parameters()).dtype).removeprefix("torch."),
        "weights": digest.hexdigest()[:16],
        "processor": hashlib.sha256(text.encode()).hexdigest()[:16],
    }


def config_of(name: str | Path, revision: str | None = None, trust_remote_code: bool = False) -> dict[str, Any]:
    """A model's config, without its weights. Raises UsageError or UnsupportedModel where there is none."""
    config: dict[str, Any] = load_config(str(name), revision, trust_remote_code).to_dict()
    return config
