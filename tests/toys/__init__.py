"""Tiny vision-language models: real config, model and processor classes, random weights, no network.

In: a family's name. Out: a folder that `AutoModelForImageTextToText` and `AutoProcessor` load by path.
Each toy is small in every number and true in every mechanism: tiles, dynamic resolution, rotary sections, masks.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.toys.parts import Toy

MECHANISMS: tuple[str, ...] = (
    "llava",
    "llava_next",
    "llava_onevision",
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
    "internvl",
    "smolvlm",
    "idefics3",
    "gemma3",
    "paligemma",
    "mistral3",
)
"""Between them they have what the passes must be right about: each pass meets its slow twin on all of them."""
FAMILIES: tuple[str, ...] = (
    *MECHANISMS,
    "aya_vision",
    "cohere2_vision",
    "glm4v",
    "deepseek_vl",
    "janus",
    "aria",
    "vipllava",
    "qwen3_vl_moe",
    "gemma4",
    "ovis2",
    "llama4",
    "idefics2",
    "got_ocr2",
    "emu3",
    "granite4_vision",
)
"""All that are proved: encoding, loss, attention and re-run as `vlmsift check` does, and every signal's contract."""
VARIANTS: tuple[str, ...] = ("pixtral",)
"""Buildable too, but not a family of their own: pixtral is a LlavaConfig around a Pixtral vision tower."""

# The others fall back on image processors made of PIL and NumPy.
NEEDS_TORCHVISION: frozenset[str] = frozenset(
    {"llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl", "smolvlm", "mistral3", "pixtral"}
    | {"qwen3_vl_moe", "aya_vision", "cohere2_vision", "glm4v", "gemma4", "llama4"}
)


def _builder(family: str) -> Callable[[], Toy]:
    if family not in FAMILIES + VARIANTS:
        raise ValueError(f"no toy named {family!r}; there are {', '.join(FAMILIES + VARIANTS)}")
    modules = (import_module(f"tests.toys.{path.stem}") for path in sorted(Path(__file__).parent.glob("[a-z]*.py")))
    return next(getattr(module, family) for module in modules if hasattr(module, family))


def make_toy(family: str, folder: Path, seed: int = 0) -> Path:
    """Build the toy and save model and processor to `folder`, which must not exist; return `folder`.

    The folder appears complete or not at all. Weights are a function of the seed alone. Raises ValueError for an
    unknown family, ImportError where the family's processor needs torchvision and there is none.
    """
    from transformers import AutoModelForImageTextToText

    from tests.toys.weights import scatter

    toy = _builder(family)()
    model = AutoModelForImageTextToText.from_config(toy.config).eval()
    scatter(model, seed)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(mkdtemp(dir=folder.parent, prefix=f"{folder.name}-"))
    model.save_pretrained(unfinished)
    toy.processor.save_pretrained(unfinished)
    os.replace(unfinished, folder)
    return folder
