"""A named model, checked before it is loaded. In: a `ModelSpec`. Out: nothing, or one sentence.

What is told here costs no seconds: a wrong path, a device that is not there, a template that cannot be read.
"""

from __future__ import annotations

from pathlib import Path

from vlmsift.errors import UsageError
from vlmsift.specs import ModelSpec


def check_model(spec: ModelSpec, *, devices: tuple[str, ...] = ()) -> None:
    """Raise UsageError where the model cannot be opened as said, as far as that is known without its weights.

    Args:
        devices: where only these can be used, as in a training; () = any.
    """
    name = spec.one
    if not Path(name).exists() and (str(name).count("/") != 1 or str(name).startswith((".", "~", "/"))):
        raise UsageError(f"there is no model folder {str(name)!r}; check the path, or give a hub name (owner/model)")
    check_device(spec.device, devices)
    if spec.template == "":
        raise UsageError(f"the chat template {str(spec.chat_template)!r} is empty; give Jinja text, or leave it out")


def check_device(device: str, devices: tuple[str, ...] = ()) -> None:
    """Raise UsageError for a device that this machine does not have, or that cannot be used for the work."""
    import torch

    if devices and device not in devices:
        raise UsageError(
            f"device {device!r}: one process trains on one device, {' or '.join(devices)}; choose a GPU with "
            "CUDA_VISIBLE_DEVICES"
        )
    if device in ("auto", "spread", "cpu"):
        return
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from error
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (wanted.index or 0) >= there.get(wanted.type, 0):
        has = ", ".join(f"{kind} ({count})" for kind, count in there.items() if count)
        raise UsageError(f"device {device!r} cannot be used here: this machine has {has}. Give auto, or one of these")
