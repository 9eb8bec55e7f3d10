"""Attention received and attention on the image, against the model's own eager attention, row by row in NumPy."""

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
from vlmsift.passes import attention
from vlmsift.passes.attention import Rows, Seen
from vlmsift.passes.attention_received import AttentionReceived, ImageAttention, rows_mask
from vlmsift.passes.capture import Capture
from vlmsift.passes.measure import measure
from vlmsift.proofs import eager_attentions
from vlmsift.types import Batch

SPANS = [(0, None), (0, 1), (1, None), (1, 2)]  # all, below, above, between
RECEIVED = [AttentionReceived(rows, start, stop) for rows in ("answer", "all") for start, stop in SPANS]
RECEIVED += [
    AttentionReceived("last"),
    AttentionReceived("answer", heads="max"),
    AttentionReceived("all", 1, heads="max"),
]


@pytest.fixture(params=FAMILIES)
def adapter(request: pytest.FixtureRequest, toy_path: Callable[[str], Path]) -> Adapter:
    return opened(toy_path(request.param))


def slow_received(need: AttentionReceived, batch: Batch, maps: np.ndarray) -> np.ndarray:
    """(B, T) from (L, B, H, T, T): layer by layer, row by row."""
    layers = maps[need.start : need.stop]
    total = np.zeros(batch.valid.shape)
    for layer in layers:
        for sample, wanted in enumerate(rows_mask(need.row_name, batch).numpy()):
            heads = np.max if need.heads == "max" else np.mean
            rows = [heads(layer[sample, :, row], 0) for row in np.flatnonzero(wanted)]
            seen_by = sum(row > 0 for row in rows)
            total[sample] += sum(rows) / np.maximum(seen_by, 1)
    return total / len(layers)


def slow_on_image(batch: Batch, maps: np.ndarray) -> np.ndarray:
    """(B, 2): mass and entropy."""
    found = np.full((len(batch), 2), math.nan)
    for sample, image in enumerate(batch.image_mask.numpy()):
        if not image.any():
            continue
        values = []
        for layer in maps:
            for row in np.flatnonzero(batch.query_mask[sample].numpy()):
                on_image = layer[sample, :, row].mean(0)[image]
                share = on_image[on_image > 0] / on_image.sum()
                entropy = -(share * np.log(share)).sum() / math.log(image.sum()) if len(share) else math.nan
                values.append((on_image.sum(), entropy))
        found[sample] = np.nanmean(values, axis=0)
    return found


@pytest.mark.parametrize("rows_at_once", [3, 10_000])
@pytest.mark.parametrize("layout", ["alone", "left", "right"])
def test_equals_the_model_s_eager_attention(adapter, layout, rows_at_once, monkeypatch):
    samples = varied(adapter.model.config.model_type)
    batch = batch_of(adapter, samples[:1] if layout == "alone" else samples[3:], layout)
    maps = torch.stack(eager_attentions(adapter, batch)).double().numpy()
    assert maps.shape[0] == adapter.depth
    monkeypatch.setattr(attention, "CHUNK_ELEMENTS", maps[0, :, :, 0].size * rows_at_once)
    with Capture(adapter) as capture:
        found = measure(capture, batch, [*RECEIVED, ImageAttention()])
    for need in RECEIVED:
        expected = slow_received(need, batch, maps)
        assert expected.max() > 0.01
        np.testing.assert_allclose(found[need], expected, atol=1e-5, err_msg=str(need))
    expected = slow_on_image(batch, maps)
    assert layout == "alone" or np.isnan(expected).any() == ("words" in batch.ids)
    np.testing.assert_allclose(found[ImageAttention()], expected, atol=1e-5)


def chunk(rows: list[list[float]], index: list[int], chosen: list[bool]) -> Seen:
    """One sample, one head; every key of positive probability is visible."""
    probabilities = torch.tensor(rows)
    return Seen(probabilities[None, None], probabilities[None] > 0, Rows(torch.tensor([index]), torch.tensor([chosen])))


def test_a_token_s_sum_is_divided_by_the_rows_that_see_it():
    observer = AttentionReceived("all").observer(hand_batch("ppa"), 1)
    observer.see(0, chunk([[1.0, 0.0], [0.4, 0.6]], [0, 1], [True, True]))
    observer.see(0, chunk([[0.2, 0.3, 0.5]], [2], [True]))
    torch.testing.assert_close(observer.result(), torch.tensor([[1.6 / 3, 0.9 / 2, 0.5]]))


def test_rows_that_only_fill_up_do_not_count_and_layers_are_averaged():
    observer = AttentionReceived("answer").observer(hand_batch("ppa"), 2)
    observer.see(0, chunk([[0.4, 0.6], [1.0, 0.0]], [1, 0], [True, False]))
    observer.see(1, chunk([[0.2, 0.8], [1.0, 0.0]], [1, 0], [True, False]))
    expected = torch.tensor([[0.3, 0.7, 0.0]])
    torch.testing.assert_close(observer.result(), expected)
    torch.testing.assert_close(observer.result(), expected)


@pytest.mark.parametrize(
    ("row", "mass", "entropy"),
    [
        ([0.25, 0.25, 0.25, 0.25], 0.5, 1.0),
        ([0.7, 0.0, 0.3, 0.0], 0.7, 0.0),
        ([0.0, 0.0, 0.5, 0.5], 0.0, math.nan),
        ([0.3, 0.1, 0.6, 0.0], 0.4, (0.75 * math.log(4 / 3) + 0.25 * math.log(4)) / math.log(2)),
    ],
)
def test_mass_and_entropy_on_two_patches(row, mass, entropy):
    observer = ImageAttention().observer(hand_batch("iipa"), 1)
    observer.see(0, chunk([row], [2], [True]))
    expected = torch.tensor([[mass, entropy]])
    torch.testing.assert_close(observer.result(), expected, atol=1e-6, rtol=0, equal_nan=True)


def test_rows_that_do_not_see_the_image_have_no_entropy():
    observer = ImageAttention().observer(hand_batch("iiaa"), 1)
    observer.see(0, chunk([[0.2, 0.2, 0.6, 0.0], [0.0, 0.0, 0.5, 0.5]], [1, 2], [True, True]))
    torch.testing.assert_close(observer.result(), torch.tensor([[0.2, 1.0]]))


def test_one_patch_holds_the_look_and_no_image_is_undefined():
    one = ImageAttention().observer(hand_batch("ippa"), 1)
    one.see(0, chunk([[0.5, 0.1, 0.4]], [2], [True]))
    assert one.result().tolist() == [[0.5, 0.0]]
    none = ImageAttention().observer(hand_batch("pppa"), 1)
    none.see(0, chunk([[0.5, 0.1, 0.4]], [2], [True]))
    assert none.result().isnan().all()


def test_rows_by_name():
    batch = hand_batch("..ppa", "ppaap")
    assert torch.equal(rows_mask("all", batch), batch.valid)
    assert rows_mask("answer", batch).int().tolist() == [[0, 0, 0, 1, 0], [0, 1, 1, 0, 0]]
    assert rows_mask("last", batch).int().tolist() == [[0, 0, 0, 1, 0], [0, 0, 1, 0, 0]]
    assert not rows_mask("last", hand_batch("pppp")).any()
