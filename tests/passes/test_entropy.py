"""The first decoding row's entropy over the image, against the model's own eager attention, layer by layer in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.models.helpers import batch_of, hand_batch, opened, varied
from tests.toys import MECHANISMS as FAMILIES
from vlmsift.models import Adapter
from vlmsift.passes.attention import Rows, Seen
from vlmsift.passes.capture import Capture
from vlmsift.passes.entropy import EntropyProfile
from vlmsift.passes.measure import measure
from vlmsift.proofs import eager_attentions
from vlmsift.types import Batch


@pytest.fixture(params=FAMILIES)
def adapter(request: pytest.FixtureRequest, toy_path: Callable[[str], Path]) -> Adapter:
    return opened(toy_path(request.param))


def slow_profile(batch: Batch, maps: np.ndarray, normalise: bool) -> np.ndarray:
    """(B, L) from (L, B, H, T, T), written from the paper's formula."""
    found = np.full((len(batch), len(maps)), math.nan)
    for sample, image in enumerate(batch.image_mask.numpy()):
        if not image.any():
            continue
        row = min(q for q in np.flatnonzero(batch.query_mask[sample]) if q > np.flatnonzero(image)[0])
        for layer, attention in enumerate(maps[:, sample]):
            look = attention[:, row].mean(0)[image]
            if look.any():
                share = look[look > 0] / look.sum()
                # all families' masks leave the image tokens in sight a positive weight in float32
                scale = math.log(max(2, (look > 0).sum())) if normalise else 1
                found[sample, layer] = -(share * np.log(share)).sum() / scale
    return found


@pytest.mark.parametrize("layout", ["alone", "left", "right"])
def test_equals_the_model_s_eager_attention(adapter, layout):
    samples = varied(adapter.model.config.model_type)
    batch = batch_of(adapter, samples[:1] if layout == "alone" else samples[3:], layout)
    maps = torch.stack(eager_attentions(adapter, batch)).double().numpy()
    needs = [EntropyProfile(), EntropyProfile(normalise=True)]
    with Capture(adapter) as capture:
        found = measure(capture, batch, needs)
    for need in needs:
        expected = slow_profile(batch, maps, need.normalise)
        assert expected.shape == (len(batch), adapter.depth)
        assert np.nanmax(expected) > 0.3
        np.testing.assert_allclose(found[need], expected, atol=1e-5)
    assert layout == "alone" or found[needs[0]].isnan().all(1).any() == ("words" in batch.ids)


def profile(batch: Batch, need: EntropyProfile, *rows: list[float]) -> list[float]:
    """What two heads' (T',) probabilities of the last prompt row, in the one layer there is, come to."""
    observer, place = need.observer(batch, 1), int(need.rows(batch)[0].nonzero())
    probabilities = torch.tensor(rows)[None, :, None]
    seen = Rows(torch.tensor([[place]]), torch.tensor([[True]]))
    observer.see(0, Seen(probabilities, probabilities[:, 0] > 0, seen))
    return observer.result()[0].tolist()


@pytest.mark.parametrize(
    ("rows", "nats", "share"),
    [
        ([[0.25, 0.25, 0.25, 0.25], [0.25, 0.25, 0.25, 0.25]], math.log(2), 1.0),
        ([[0.7, 0.0, 0.2, 0.1], [0.1, 0.0, 0.5, 0.4]], 0.0, 0.0),
        # heads are averaged before the entropy: each sees one patch, together they see both
        ([[0.4, 0.0, 0.5, 0.1], [0.0, 0.4, 0.5, 0.1]], math.log(2), 1.0),
        # and weigh by their mass: (.6 + .0, .0 + .2) / .8 = (3/4, 1/4)
        ([[0.6, 0.0, 0.4, 0.0], [0.0, 0.2, 0.8, 0.0]], 0.75 * math.log(4 / 3) + 0.25 * math.log(4), None),
        ([[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.5, 0.5]], math.nan, math.nan),
    ],
)
def test_two_patches_by_hand(rows, nats, share):
    batch = hand_batch("iippaa")
    assert profile(batch, EntropyProfile(), *rows) == [pytest.approx(nats, abs=1e-6, nan_ok=True)]
    share = nats / math.log(2) if share is None else share
    assert profile(batch, EntropyProfile(normalise=True), *rows) == [pytest.approx(share, abs=1e-6, nan_ok=True)]


def test_the_row_predicts_the_first_answer_token_after_the_first_image():
    batch = hand_batch(".siippaapa", "paiipaapaa", "ppppppaaaa", "iaippppaaa")
    assert EntropyProfile().rows(batch).int().tolist() == [
        [0, 0, 0, 0, 0, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 0, 0, 0, 0, 0],
        [0] * 10,
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]


def test_a_batch_without_images_is_undefined(toy_path):
    adapter = opened(toy_path("llava"))
    batch = batch_of(adapter, [one for one in varied("llava") if not one.images])
    with Capture(adapter) as capture:
        found = measure(capture, batch, [EntropyProfile()])[EntropyProfile()]
    assert found.shape == (1, adapter.depth)
    assert found.isnan().all()


def test_a_row_that_only_fills_up_is_no_look():
    """The second sample answers before its image; the row that stands in for it sees the image all the same."""
    batch = hand_batch("iippaa", "paiipp")
    need = EntropyProfile()
    rows = Rows.where(need.rows(batch))
    assert rows.chosen.tolist() == [[True], [False]]
    observer = need.observer(batch, 1)
    observer.see(0, Seen(torch.full((2, 1, 1, 6), 1 / 6), torch.ones(2, 1, 6, dtype=torch.bool), rows))
    assert observer.result()[:, 0].tolist() == [pytest.approx(math.log(2)), pytest.approx(math.nan, nan_ok=True)]
