"""Text, vision and projector are found on every family, without a name for each."""

from __future__ import annotations

import pytest

from tests.toys import MECHANISMS as FAMILIES
from vlmsift.models import open_model
from vlmsift.specs import ModelSpec
from vlmsift.train.parts import part_names

PROJECTOR = {
    "qwen2_vl": "visual.merger.",
    "qwen2_5_vl": "visual.merger.",
    "qwen3_vl": "merger",
    "smolvlm": "model.connector.",
    "idefics3": "model.connector.",
}
"""Family -> what its projector's names hold; "multi_modal_projector" elsewhere."""


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parts(family, toy_path):
    adapter = open_model(ModelSpec(toy_path(family), device="cpu"))
    found = part_names(adapter)
    assert set(found) == {name for name, _ in adapter.model.named_parameters()}
    word = PROJECTOR.get(family, "multi_modal_projector")
    for name, part in found.items():
        projector = word in name or name == "model.image_newline"
        text = "language_model" in name or "text_model" in name or name.startswith("lm_head")
        assert part == ("projector" if projector else "text" if text else "vision"), name
    assert set(found.values()) == {"text", "vision", "projector"}
