"""The table of exceptions: values only, and nothing listed that needs none."""

from __future__ import annotations

import pytest

from tests.toys import FAMILIES
from vlmsift.models.quirks import PLAIN, QUIRKS, Quirk, quirk_of


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_s_quirk(family):
    assert quirk_of(family) == Quirk(
        prefix_suffix=family == "paligemma", images_per_row=family in ("smolvlm", "idefics2", "idefics3")
    )


def test_an_unknown_family_is_plain():
    assert quirk_of("next year's") is PLAIN
    assert PLAIN not in QUIRKS.values()
