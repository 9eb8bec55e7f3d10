"""The exceptions among model families, as a table of values. A family that is not listed needs none.

What is *not* here is found on the model itself: layers, image positions, supervised positions, and features that a
decoder injects between its layers (passes/capture.py sees them happen).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quirk:
    """How one family differs."""

    prefix_suffix: bool = False
    """No chat template; the processor takes one prompt and one answer (`suffix`), and the prompt is seen both ways."""
    images_per_row: bool = False  # pixels are (B, images, ...), not (images, ...); zeros for a missing one are skipped


PLAIN = Quirk()

QUIRKS: dict[str, Quirk] = {
    "paligemma": Quirk(prefix_suffix=True),
    "idefics2": Quirk(images_per_row=True),
    "idefics3": Quirk(images_per_row=True),
    "smolvlm": Quirk(images_per_row=True),
}
"""`config.model_type` -> quirk."""


def quirk_of(model_type: str) -> Quirk:
    """The quirk of a family; the plain one where it has none."""
    return QUIRKS.get(model_type, PLAIN)
