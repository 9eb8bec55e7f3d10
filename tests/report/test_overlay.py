"""The overlay points at the right pixels, in all families: what a known attention looks at is where the picture acts.

The places that are tested come from codes and gradients; here they are held against something else: a square of the
picture is changed, and the tokens that the tower then gives otherwise are those that lie there, and no others.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.models.helpers import ask, batch_of, opened, picture, sample
from tests.toys import FAMILIES, VARIANTS
from vlmsift.models import Adapter
from vlmsift.passes import looks
from vlmsift.passes.looks import look
from vlmsift.passes.masking import Masking
from vlmsift.passes.measure import on_device
from vlmsift.passes.places import Apart, ImagePlaces, entering
from vlmsift.report.pictures import thumbnail, with_look

NOWHERE = {
    "aria": "each token reads the whole picture by cross-attention",
    "idefics2": "each token reads the whole picture by cross-attention",
    "emu3": "a token is a word of a codebook, and no gradient comes through",
}
SIZE = (120, 50)
TRIED = 3  # tokens of a family


def states(adapter: Adapter, image: Image.Image) -> NDArray[np.float32]:
    """(I, D) image tokens of one sample, where no position of the tower looks at another."""
    encoder = adapter.encoder(lambda ref: image)
    batch = encoder.collate([encoder.encode(ask("x", "what?", "a dog", "p"))])
    with torch.no_grad(), Apart():
        found: NDArray[np.float32] = entering(adapter, batch, adapter.inputs(batch))[batch.image_mask].numpy()
    return found


def brightest(heat: str) -> NDArray[np.float64]:
    """Middle of the cells that are drawn brightest, as shares of the picture."""
    with Image.open(io.BytesIO(base64.b64decode(heat.partition(",")[2]))) as image:
        opaque = np.asarray(image)[..., 3]  # (h, w)
    down, across = np.nonzero(opaque == opaque.max())
    return np.array([(across.mean() + 0.5) / opaque.shape[1], (down.mean() + 0.5) / opaque.shape[0]])


@pytest.mark.parametrize("family", [name for name in FAMILIES + VARIANTS if name not in NOWHERE])
def test_known_attention_lies_where_the_picture_moves_its_token(toy_path, family, monkeypatch):
    adapter = opened(toy_path(family))
    image = picture(f"{SIZE[0]}x{SIZE[1]}#1")
    places = ImagePlaces(adapter)
    asked = ask("x", "what?", "a dog", "p")
    boxes = places(asked, [SIZE]).numpy() * np.tile(SIZE, 2)  # (I, 4), pixels
    reach = np.maximum(4, 0.45 * (boxes[:, 2:] - boxes[:, :2]))  # (I, 2): resizing blurs that far
    placed = np.flatnonzero(np.isfinite(boxes).all(1))
    before, pixels = states(adapter, image), np.array(image)
    encoder = adapter.encoder(lambda ref: image)
    image_mask = encoder.collate([encoder.encode(asked)]).image_mask
    for token in np.random.default_rng(0).choice(placed, TRIED, replace=False):
        box = boxes[token]
        middle, half = (box[:2] + box[2:]) / 2, np.maximum((box[2:] - box[:2]) / 8, 1)
        low, high = np.floor(middle - half).astype(int), np.ceil(middle + half).astype(int)
        changed = pixels.copy()
        changed[low[1] : high[1], low[0] : high[0]] = 255 - changed[low[1] : high[1], low[0] : high[0]]
        moved = np.linalg.norm(states(adapter, Image.fromarray(changed)) - before, axis=1)  # (I,)
        moves = moved > 1e-3 * moved.max()
        over = ((boxes[:, :2] <= middle) & (boxes[:, 2:] >= middle)).all(1)
        near = ((boxes[:, :2] < high + reach) & (boxes[:, 2:] > low - reach)).all(1)
        assert over[token]
        assert moves[over].all(), "a token that lies there does not see it"
        assert near[moves].all(), "a token that lies elsewhere sees it"

        def known(capture: Any, batch: Any, needs: Any, token: int = token) -> dict[Any, torch.Tensor]:
            scores = torch.zeros(image_mask.shape)
            scores[0, image_mask[0].nonzero()[token]] = 1.0
            return dict.fromkeys(needs, scores)

        monkeypatch.setattr(looks, "measure", known)
        seen = look(places, encoder, asked, [SIZE], None)
        assert seen.attention.argmax() == token
        point = brightest(with_look(thumbnail(image), seen, 0).heat) * SIZE
        assert (np.abs(point - middle) <= np.maximum(half, np.array(SIZE) / 48)).all()


@pytest.mark.parametrize("family", NOWHERE)
def test_tokens_that_stand_for_no_place_have_none(toy_path, family):
    adapter = opened(toy_path(family))
    boxes = ImagePlaces(adapter)(ask("x", "what?", "a dog", "p"), [(60, 50)])
    assert len(boxes) > 0
    assert boxes.isnan().all()


def test_a_cropped_grid_by_hand(toy_path):
    """LLaVA's toy: the middle square of 120 x 50 pixels, 4 x 4 tokens, row by row."""
    boxes = ImagePlaces(opened(toy_path("llava")))(ask("x", "what?", "a dog", "p"), [SIZE]).reshape(4, 4, 4)
    edges = 35 / 120 + 50 / 120 * np.arange(5) / 4
    np.testing.assert_allclose(boxes[..., 0], np.tile(edges[:4], (4, 1)), atol=0.01)
    np.testing.assert_allclose(boxes[..., 2], np.tile(edges[1:], (4, 1)), atol=0.01)
    np.testing.assert_allclose(boxes[..., 1], np.tile(np.arange(4)[:, None] / 4, (1, 4)), atol=0.02)
    np.testing.assert_allclose(boxes[..., 3], np.tile(np.arange(1, 5)[:, None] / 4, (1, 4)), atol=0.02)


def test_row_ends_have_no_place(toy_path):
    """LLaVA-NeXT's toy: a thumbnail of 4 x 4, then tiles of which each row ends with a token of its own."""
    boxes = ImagePlaces(opened(toy_path("llava_next")))(ask("x", "what?", "a dog", "p"), [SIZE])
    nowhere = boxes.isnan().all(1).nonzero()[:, 0]
    rows = (len(boxes) - 16) // len(nowhere)
    assert nowhere.tolist() == list(range(16 + rows - 1, len(boxes), rows))


def test_each_picture_of_several_has_its_own_places(toy_path):
    places = ImagePlaces(opened(toy_path("qwen2_vl")))
    told = sample("x", "<image> and <image>?", "a dog", images=("p", "q"))
    both = places(told, [(60, 60), SIZE])
    alone = [places(ask("x", "what?", "a dog", "p"), [size]) for size in ((60, 60), SIZE)]
    np.testing.assert_allclose(both, torch.cat(alone), atol=0.01)
    assert places(told, [(60, 60), SIZE]) is both, "nothing else about a picture matters"


def test_a_look_tells_attention_and_what_is_masked(toy_path):
    adapter = opened(toy_path("llava"))
    asked, masking = ask("x", "what is it?", "a dog", "60x60#1"), Masking(depth=0.5, ratio=0.25)
    seen = look(ImagePlaces(adapter), adapter.encoder(picture), asked, [(60, 60)], masking)
    batch = on_device(batch_of(adapter, [asked]), adapter.device)
    assert seen.masked.sum() == 4
    assert seen.attention[seen.masked].min() >= np.sort(seen.attention)[-5], "the answer's attention ranks them"
    assert 0 < seen.attention.sum() < 1
    assert len(seen.attention) == batch.image_mask.sum() == len(seen.boxes)
    assert not look(ImagePlaces(adapter), adapter.encoder(picture), asked, [(60, 60)], None).masked.any()
