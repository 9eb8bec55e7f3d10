"""Thumbnails, heat and outlines, against what can be counted by hand."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
from PIL import Image

from vlmsift.passes.looks import Look
from vlmsift.report.pictures import SIDE, thumbnail, with_look


def decoded(uri: str) -> Image.Image:
    kind, _, content = uri.partition(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert image.format is not None
    assert kind == f"data:image/{image.format.lower()}"
    return image


def quarters(attention: list[float], masked: list[bool]) -> Look:
    """A look at a picture of 2 x 2 tokens, row by row, and at one token without a place."""
    boxes = [[x, y, x + 0.5, y + 0.5] for y in (0, 0.5) for x in (0, 0.5)]
    return Look(
        np.zeros(5, np.int64),
        np.array([*boxes, [np.nan] * 4], np.float32),
        np.array([*attention, 0.9], np.float32),
        np.array([*masked, False]),
    )


def test_large_pictures_become_small_and_small_ones_stay() -> None:
    large = thumbnail(Image.new("RGB", (1000, 500)))
    assert decoded(large.source).size == (SIDE, SIDE // 2)
    assert (large.width, large.height, large.tiny) == (1000, 500, False)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    small = thumbnail(noise)
    assert small.tiny
    assert np.array_equal(np.asarray(decoded(small.source)), np.asarray(noise))


def test_heat_is_as_opaque_as_attention() -> None:
    look = quarters([0.1, 0.2, 0.0, 0.4], [False] * 4)
    picture = with_look(thumbnail(Image.new("RGB", (80, 80))), look, 0)
    opaque = np.asarray(decoded(picture.heat))[..., 3] / 255
    half = len(opaque) // 2
    found = [opaque[y : y + half, x : x + half].mean() for y in (0, half) for x in (0, half)]
    np.testing.assert_allclose(found, [0.2, 0.4, 0.0, 0.8], atol=0.01)
    assert picture.outline == ""


def test_the_outline_goes_around_masked_tokens_together() -> None:
    """The upper two are one box: its border has 1000 + 1000 across and 500 + 500 down, and no line between them."""
    look = quarters([0.1] * 4, [True, True, False, False])
    path = with_look(thumbnail(Image.new("RGB", (80, 80))), look, 0).outline
    across = sorted(re.findall(r"M(\d+) (\d+)H(\d+)", path))
    down = sorted(re.findall(r"M(\d+) (\d+)V(\d+)", path))
    assert across == [("0", "0", "1000"), ("0", "500", "1000")]
    assert down == [("0", "0", "500"), ("1000", "0", "500")]


def test_a_thumbnails_tokens_are_outlined_apart() -> None:
    boxes = np.array([[0, 0, 1, 1], *([x / 4, 0, (x + 1) / 4, 0.25] for x in range(4))], np.float32)
    look = Look(np.zeros(5, np.int64), boxes, np.ones(5, np.float32), np.array([True, True, False, False, False]))
    picture = with_look(thumbnail(Image.new("RGB", (80, 80))), look, 0)
    assert "H1000" in picture.coarse
    assert "H250" in picture.outline
    assert "H1000" not in picture.outline


def test_another_pictures_tokens_are_not_drawn() -> None:
    plain = thumbnail(Image.new("RGB", (80, 80)))
    assert with_look(plain, quarters([0.1] * 4, [True] * 4), 1) is plain
