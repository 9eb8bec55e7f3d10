"""Attention probabilities of chosen rows, chunk by chunk, against one softmax at a time in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vlmsift.passes import attention
from vlmsift.passes.attention import Rows, attention_chunks, visible_keys

B, H, KV, T, D = 2, 6, 2, 9, 4
SCALING = 0.7


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


QUERY, KEY = drawn(B, H, T, D), drawn(B, KV, T, D, seed=1)
CAUSAL = torch.ones(T, T, dtype=torch.bool).tril()
# the second sample is padded on the left by three, and looks ahead within its first five
PREFIX = torch.stack([CAUSAL, CAUSAL | (torch.arange(T) < 5)])
PREFIX[1, :, :3] = False
ADDITIVE = torch.zeros(B, 1, T, T).masked_fill(~PREFIX[:, None], torch.finfo(torch.float32).min)
MASKS = {
    "none": None,
    "bool": PREFIX[:, None],
    "bool for all": CAUSAL[None, None],
    "additive": ADDITIVE,
    "additive, infinite": ADDITIVE.masked_fill(ADDITIVE < 0, -math.inf),
    "additive, half": ADDITIVE.bfloat16(),
}
CHOSEN = torch.tensor([[0, 1, 0, 1, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1, 0, 0, 1]], dtype=torch.bool)


def slow(sample: int, head: int, row: int, allowed: np.ndarray, softcap: float | None) -> np.ndarray:
    """One row of one head: (T,) probabilities."""
    query, key = QUERY.double().numpy()[sample, head, row], KEY.double().numpy()[sample, head // (H // KV)]
    scores = key @ query * SCALING
    if softcap is not None:
        scores = np.tanh(scores / softcap) * softcap
    weights = np.where(allowed, np.exp(scores), 0)
    return weights / weights.sum()


def allowed_keys(mask: Tensor | None, causal: bool, sample: int, row: int) -> np.ndarray:
    if mask is None:
        return np.arange(T) <= row if causal else np.ones(T, bool)
    line = mask.expand(B, -1, -1, -1)[sample, 0, row]
    return (line if line.dtype == torch.bool else line == 0).numpy()


@pytest.mark.parametrize("rows_at_once", [1, 2, 100])
@pytest.mark.parametrize("softcap", [None, 0.5])
@pytest.mark.parametrize(("mask", "causal"), [(name, True) for name in MASKS] + [("none", False)])
def test_chunks_equal_one_softmax_at_a_time(mask, causal, softcap, rows_at_once, monkeypatch):
    monkeypatch.setattr(attention, "CHUNK_ELEMENTS", B * H * T * rows_at_once)
    rows = Rows.where(CHOSEN)
    chunks = list(attention_chunks(QUERY, KEY, MASKS[mask], rows, scaling=SCALING, causal=causal, softcap=softcap))
    assert len(chunks) == math.ceil(4 / rows_at_once)
    assert torch.equal(torch.cat([seen.rows.index for seen in chunks], 1), rows.index)
    assert torch.equal(torch.cat([seen.rows.chosen for seen in chunks], 1), rows.chosen)
    found = 0
    for seen in chunks:
        reach = seen.probabilities.shape[-1]
        assert seen.probabilities.dtype == torch.float32
        assert seen.probabilities.numel() <= max(B * H * T * rows_at_once, B * H * T)
        for sample, place in seen.rows.chosen.nonzero().tolist():
            row = int(seen.rows.index[sample, place])
            allowed = allowed_keys(MASKS[mask], causal, sample, row)
            assert not allowed[reach:].any()
            assert seen.visible[sample, place].tolist() == allowed[:reach].tolist()
            for head in range(H):
                expected = slow(sample, head, row, allowed, softcap)[:reach]
                np.testing.assert_allclose(seen.probabilities[sample, head, place], expected, atol=1e-6)
            found += 1
    assert found == int(CHOSEN.sum())


def test_keys_after_the_last_row_of_a_causal_chunk_are_not_touched(monkeypatch):
    monkeypatch.setattr(attention, "CHUNK_ELEMENTS", 1)
    rows = Rows(torch.tensor([[1, 4]]), torch.ones(1, 2, dtype=torch.bool))
    chunks = attention_chunks(QUERY[:1], KEY[:1], None, rows, scaling=1, causal=True)
    assert [seen.probabilities.shape[-1] for seen in chunks] == [2, 5]


def test_half_precision_is_summed_in_float32():
    rows = Rows.where(CHOSEN)
    half = [tensor.bfloat16() for tensor in (QUERY, KEY)]
    one = next(attention_chunks(*half, None, rows, scaling=SCALING, causal=True)).probabilities
    other = next(attention_chunks(*[t.float() for t in half], None, rows, scaling=SCALING, causal=True)).probabilities
    torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_the_inputs_are_left_as_they_were():
    query, key = QUERY.clone(), KEY.clone()
    list(attention_chunks(query, key, ADDITIVE, Rows.where(CHOSEN), scaling=SCALING, causal=True))
    assert torch.equal(query, QUERY)
    assert torch.equal(key, KEY)


def test_rows_are_in_order_and_filled_up():
    rows = Rows.where(CHOSEN)
    assert rows.index[0].tolist() == [1, 3, 4, 7]
    assert rows.index[1, :2].tolist() == [5, 8]
    assert rows.chosen.tolist() == [[True] * 4, [True, True, False, False]]
    assert Rows.where(torch.zeros(2, 5, dtype=torch.bool)).index.shape == (2, 0)


def test_no_row_makes_no_chunk():
    empty = Rows.where(torch.zeros(B, T, dtype=torch.bool))
    assert list(attention_chunks(QUERY, KEY, None, empty, scaling=1, causal=True)) == []


@pytest.mark.parametrize(("mask", "causal"), [(name, True) for name in MASKS] + [("none", False)])
def test_visible_keys(mask, causal):
    found = visible_keys(MASKS[mask], Rows.where(CHOSEN), 7, causal)
    for sample, place in Rows.where(CHOSEN).chosen.nonzero().tolist():
        row = int(Rows.where(CHOSEN).index[sample, place])
        assert found[sample, place].tolist() == allowed_keys(MASKS[mask], causal, sample, row)[:7].tolist()
