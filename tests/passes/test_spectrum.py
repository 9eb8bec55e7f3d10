"""Spectra of the text's look at the image: against eager attention, and against the released formula, in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.helpers import batch_of, hand_batch, opened, varied
from tests.toys import MECHANISMS as FAMILIES
from vlmsift.errors import UnsupportedModel
from vlmsift.models import Adapter, open_model
from vlmsift.passes import attention, spectrum
from vlmsift.passes.attention import Rows, Seen
from vlmsift.passes.capture import Capture
from vlmsift.passes.measure import measure
from vlmsift.passes.spectrum import ImageSpectrum, ReleasedSpectrum, look_rows, top_singular_sum
from vlmsift.proofs import eager_attentions
from vlmsift.specs import ModelSpec
from vlmsift.types import Batch

CHOICES: list[tuple[Any, int]] = [("text", 5), ("text", 1), ("answer", 5)]


@pytest.fixture(params=FAMILIES)
def adapter(request: pytest.FixtureRequest, toy_path: Callable[[str], Path]) -> Adapter:
    return opened(toy_path(request.param))


def layouts(adapter: Adapter, layout: str) -> Batch:
    samples = varied(adapter.model.config.model_type)
    return batch_of(adapter, samples[:1] if layout == "alone" else samples[3:], layout)


def slow_rows(batch: Batch, sample: int, rows: str) -> list[int]:
    """Text positions, or those that predict an answer token, after the first image position."""
    first = np.flatnonzero(batch.image_mask[sample])[0]
    text = batch.valid[sample] & ~batch.image_mask[sample] if rows == "text" else batch.query_mask[sample]
    return [position for position in np.flatnonzero(text) if position > first]


def slow_sums(batch: Batch, maps: np.ndarray, rows: str, top: int) -> np.ndarray:
    """(B,) from (B, T, T), attention summed over layers: numpy's own singular values."""
    found = np.full(len(batch), math.nan)
    for sample, image in enumerate(batch.image_mask.numpy()):
        if image.any():
            matrix = maps[sample][slow_rows(batch, sample, rows)][:, image]
            found[sample] = np.linalg.svd(matrix, compute_uv=False)[:top].sum()
    return found


@pytest.mark.parametrize(("layout", "rows_at_once"), [("alone", 3), ("left", 10_000), ("right", 3)])
def test_equals_the_model_s_eager_attention(adapter, layout, rows_at_once, monkeypatch):
    batch = layouts(adapter, layout)
    maps = torch.stack(eager_attentions(adapter, batch)).double().mean(2).sum(0).numpy()  # (B, T, T)
    length = batch.valid.shape[1]
    monkeypatch.setattr(
        attention, "CHUNK_ELEMENTS", len(batch) * adapter.text_config.num_attention_heads * length * rows_at_once
    )
    needs = [ImageSpectrum(*choice) for choice in CHOICES]
    with Capture(adapter) as capture:
        found = measure(capture, batch, needs)
    for need in needs:
        expected = slow_sums(batch, maps, need.row_name, need.top)
        assert np.nanmin(expected) > 0.01
        np.testing.assert_allclose(found[need], expected, atol=1e-5, err_msg=str(need))
    assert layout == "alone" or found[needs[0]].isnan().any() == ("words" in batch.ids)


def released_maps(adapter: Adapter, batch: Batch) -> np.ndarray:
    """(B, T, T), keys x queries: one softmax over the whole width per layer, of projections read off the layers."""
    projected: dict[tuple[int, str], np.ndarray] = {}

    def keep(key: tuple[int, str]) -> Callable[..., None]:
        return lambda module, args, output: projected.update({key: output.double().numpy()})

    handles = [
        getattr(layer.self_attn, name).register_forward_hook(keep((index, name)))
        for index, layer in enumerate(adapter.layers)
        for name in ("q_proj", "k_proj")
    ]
    with torch.no_grad():
        adapter.backbone(batch, adapter.inputs(batch))
    for handle in handles:
        handle.remove()
    total = np.zeros((*batch.valid.shape, batch.valid.shape[1]))
    for index in range(adapter.depth):
        query, key = projected[index, "q_proj"], projected[index, "k_proj"]
        width = query.shape[-1]
        key = np.repeat(key, width // key.shape[-1], axis=-1)
        weights = np.exp(key @ query.transpose(0, 2, 1) / math.sqrt(width)) * batch.valid.numpy()[:, None]
        total += weights / weights.sum(-1, keepdims=True)
    return total


@pytest.mark.parametrize("layout", ["alone", "left", "right"])
def test_the_released_form_equals_its_formula(adapter, layout, monkeypatch):
    batch = layouts(adapter, layout)
    maps = released_maps(adapter, batch)
    monkeypatch.setattr(spectrum, "CHUNK_ELEMENTS", 3 * batch.valid.shape[1])
    needs = [ReleasedSpectrum(*choice) for choice in CHOICES]
    with Capture(adapter) as capture:
        found = measure(capture, batch, [*needs, ImageSpectrum()])
    for need in needs:
        expected = slow_sums(batch, maps, need.row_name, need.top)
        np.testing.assert_allclose(found[need], expected, atol=1e-5, err_msg=str(need))
    assert (found[needs[0]] - found[ImageSpectrum()]).abs().nan_to_num(1).min() > 1e-3, "another number altogether"


def test_the_released_form_by_hand():
    """A text key over two image queries and the text's own; the key is half as wide, so each number stands twice.

    The text's key is (1, 1, 0, 0) ln 3, the queries (1, 1, 5, 5), (0, 0, 5, 5) and 0, and 1 / sqrt(4) is 1/2: weights
    are as 3 : 1 : 1, so the row of image queries is (.6, .2). Queries over keys would give (1/3, 1/3).
    """
    batch = hand_batch("iia")
    watcher = spectrum._Released(look_rows("text", batch), SimpleNamespace(depth=0, layers=[]), batch, 5)
    query = torch.tensor([[[1.0, 1.0, 5.0, 5.0], [0.0, 0.0, 5.0, 5.0], [0.0] * 4]])
    key = torch.tensor([[[9.0, 9.0], [9.0, 9.0], [math.log(3), 0.0]]])
    watcher.take((0, "q_proj"), query)
    watcher.take((0, "k_proj"), key)
    assert watcher.result().tolist() == [pytest.approx(math.hypot(0.6, 0.2))]


def test_a_model_without_projections_of_its_own_is_refused(toy_path):
    adapter = open_model(ModelSpec(toy_path("llava"), device="cpu", dtype="float32"))
    layer: Any = adapter.layers[1]
    layer.self_attn.fused = layer.self_attn.q_proj
    del layer.self_attn.q_proj
    batch = batch_of(adapter, varied("llava")[:1])
    with (
        Capture(adapter) as capture,
        pytest.raises(UnsupportedModel, match=r"layer 1 .* has 0 modules called 'q_proj'"),
    ):
        measure(capture, batch, [ReleasedSpectrum()])


@pytest.mark.parametrize(
    ("matrix", "count", "expected"),
    [
        ([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]], 5, 7.0),
        ([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]], 1, 4.0),
        ([[1.0, 1.0, 1.0, 1.0]], 5, 2.0),
        ([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]], 5, math.sqrt(6)),  # of rank 1
        ([[0.0, 0.0]], 5, 0.0),
        ([[]], 5, math.nan),
    ],
)
def test_singular_values_by_hand(matrix, count, expected):
    # the Gram matrix squares: a value that is 0 comes out as the root of float64's rounding, about 1e-8
    assert top_singular_sum(torch.tensor(matrix), count) == pytest.approx(expected, abs=1e-7, nan_ok=True)


def test_rows_by_name():
    batch = hand_batch(".spiipiaap", "sppppppaaa")
    assert look_rows("text", batch).int().tolist() == [[0, 0, 0, 0, 0, 1, 0, 1, 1, 1], [0] * 10]
    assert look_rows("answer", batch).int().tolist() == [[0, 0, 0, 0, 0, 0, 1, 1, 0, 0], [0] * 10]


def test_heads_are_averaged_and_layers_summed():
    """Two patches, two rows after them: [[.1, .3], [.2, .2]] from two heads, twice, is [[.2, .6], [.4, .4]]."""
    batch = hand_batch("iipa")
    observer = ImageSpectrum("text", 2).observer(batch, 2)
    rows = Rows(torch.tensor([[2, 3]]), torch.ones(1, 2, dtype=torch.bool))
    one = torch.tensor([[0.0, 0.4, 0.6, 0.0], [0.1, 0.3, 0.3, 0.3]])
    other = torch.tensor([[0.2, 0.2, 0.6, 0.0], [0.3, 0.1, 0.3, 0.3]])
    for layer in (0, 1):
        probabilities = torch.stack([one, other])[None]
        observer.see(layer, Seen(probabilities, probabilities[:, 0] > 0, rows))
    # squared values are the eigenvalues of [[.4, .32], [.32, .32]], whose trace is .72 and determinant .0256
    root = math.sqrt(0.72 + 2 * math.sqrt(0.0256))
    assert observer.result().tolist() == [pytest.approx(root)]


def test_an_image_that_ends_the_sample_is_undefined():
    assert ImageSpectrum().observer(hand_batch("pai"), 1).result().isnan().all()


def test_an_image_after_all_rows_of_a_chunk_is_not_seen_by_them():
    """Image, word, image, word; the first chunk of rows reaches as far as the first word only."""
    observer = ImageSpectrum("text", 2).observer(hand_batch("ipia"), 1)
    for place, row in [(1, [0.5, 0.5]), (3, [0.1, 0.1, 0.4, 0.4])]:
        probabilities = torch.tensor(row)[None, None, None]
        rows = Rows(torch.tensor([[place]]), torch.ones(1, 1, dtype=torch.bool))
        observer.see(0, Seen(probabilities, probabilities[:, 0] > 0, rows))
    # [[.5, 0], [.1, .4]]: squared values have the sum .42 and the product .04
    assert observer.result().tolist() == [pytest.approx(math.sqrt(0.42 + 2 * 0.2))]
