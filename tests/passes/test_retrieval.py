"""Retrieval heads: what probes say, copies counted by hand and from eager attention, and the ranking."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.helpers import hand_batch, opened
from tests.toys import MECHANISMS as FAMILIES
from vlmsift.errors import UsageError
from vlmsift.models import Adapter, Encoder
from vlmsift.passes.attention import Rows, Seen
from vlmsift.passes.capture import Capture
from vlmsift.passes.measure import measure
from vlmsift.passes.needles import image_probe, probe_picture, text_probe
from vlmsift.passes.retrieval import Copies, leading_heads, retrieval_heads
from vlmsift.proofs import eager_attentions
from vlmsift.types import Batch


@pytest.fixture(params=FAMILIES)
def adapter(request: pytest.FixtureRequest, toy_path: Callable[[str], Path]) -> Adapter:
    return opened(toy_path(request.param))


def encoder_of(adapter: Adapter) -> Encoder:
    return replace(adapter.encoder(probe_picture), context=1 << 30)


def slow_copies(batch: Batch, maps: np.ndarray, image: int | None) -> np.ndarray:
    """(L * H,) of one probe, from (L, H, T, T), one answer token and one head at a time."""
    tokens = batch.inputs["input_ids"][0].tolist()
    needle = {tokens[q + 1] for q in np.flatnonzero(batch.query_mask[0]) if not batch.special_mask[0, q + 1]}
    shares = []
    for weights in maps.reshape(-1, *maps.shape[2:]):
        copied = set()
        for q in np.flatnonzero(batch.query_mask[0]):
            top = weights[q].argmax()
            hit = tokens[top] == tokens[q + 1] if image is None else batch.image_index[0, top] == image
            if hit and tokens[q + 1] in needle:
                copied.add(tokens[q + 1])
        shares.append(len(copied) / len(needle))
    return np.array(shares)


def test_copies_equal_those_of_the_model_s_eager_attention(adapter):
    encoder, found = encoder_of(adapter), []
    probes: list[Any] = [(text_probe(encoder, random.Random(number), 500, 1), None) for number in range(2)]
    probes += [image_probe(encoder, random.Random(0))]
    for encoded, image in probes:
        batch = encoder.collate([encoded])
        maps = torch.stack(eager_attentions(adapter, batch))[:, 0].numpy()
        with Capture(adapter) as capture:
            copies = measure(capture, batch, [Copies(image)])[Copies(image)][0]
        np.testing.assert_allclose(copies, slow_copies(batch, maps, image), atol=1e-6)
        found.append(copies)
    assert torch.stack(found).max() > 0, "random heads hit something now and then"


def copies(batch: Batch, need: Copies, tops: list[list[int]]) -> list[float]:
    """One layer; `tops` holds per head the position that each answer row looks at most."""
    observer, rows = need.observer(batch, 1), Rows.where(need.rows(batch))
    weights = torch.nn.functional.one_hot(torch.tensor(tops), batch.valid.shape[1]).float()[None]
    observer.see(0, Seen(weights, weights[:, 0] > 0, rows))
    return observer.result()[0].tolist()


def test_copies_by_hand():
    """The answer "x y x end" is predicted by rows 4 to 7; x stands at 1 and 5, y at 2 and 6."""
    batch = hand_batch("sppppaaas", "sppppaaas")
    batch = replace(batch, **{name: getattr(batch, name)[:1] for name in ("labels", "image_index", "special_mask")})
    batch = replace(batch, valid=batch.valid[:1], query_mask=batch.query_mask[:1].clone(), ids=("a",))
    batch.query_mask[0, 7] = True  # the end is supervised, but no part of the needle
    tokens = torch.tensor([[1, 8, 9, 3, 4, 8, 9, 8, 2]])
    batch = replace(batch, inputs={"input_ids": tokens})
    tops = [
        [1, 2, 1, 0],  # all
        [1, 0, 0, 0],  # x once
        [1, 0, 1, 0],  # x twice counts once
        [0, 2, 5, 0],  # y, and x from the answer itself
        [0, 0, 0, 8],  # the end only
    ]
    assert copies(batch, Copies(), tops) == [1.0, 0.5, 0.5, 1.0, 0.0]


def test_looks_at_an_image_by_hand():
    batch = hand_batch("siippaa")
    batch.image_index[0, 2] = 1
    tops = [[1, 1], [2, 1], [2, 2], [0, 3]]
    batch.inputs["input_ids"][0, 5] = 7  # two different answer tokens
    assert copies(batch, Copies(1), tops) == [0.0, 0.5, 1.0, 0.0]
    assert copies(batch, Copies(0), tops) == [1.0, 0.5, 0.0, 0.0]


def test_an_answer_of_special_tokens_alone_is_undefined():
    batch = hand_batch("sppp")
    batch.special_mask[0, 3] = batch.query_mask[0, 2] = True
    assert math.isnan(copies(batch, Copies(), [[0]])[0])


def test_the_leading_heads():
    scores = torch.tensor([[0.1, 0.5, 0.0, 0.5], [0.7, 0.0, 0.1, 0.2]])
    assert leading_heads(scores, 0.05).heads == ((1, 0),)
    assert leading_heads(scores, 0.5).heads == ((1, 0), (0, 1), (0, 3), (1, 3))
    assert leading_heads(scores, 0.5).word == "1.0+0.1+0.3+1.3"
    assert len(leading_heads(scores, 1.0).heads) == 6, "a head that never copied is none"
    assert len(leading_heads(torch.ones(16, 20), 0.05).heads) == 16
    with pytest.raises(UsageError, match="no head copied a token of any needle"):
        leading_heads(torch.zeros(2, 4), 0.5)


@pytest.mark.parametrize("needle", ["text", "image"])
def test_heads_of_a_model_are_repeatable(needle, toy_path):
    adapter = opened(toy_path("llava"))
    how: dict[str, Any] = {"needle": needle, "probes": 4, "tokens": 500, "examples": 1, "share": 0.25}
    with Capture(adapter) as capture:
        one, again, other = (retrieval_heads(capture, **how, seed=seed) for seed in (0, 0, 1))
    assert one.scores.shape == (adapter.depth, 4)
    assert one.scores.dtype == torch.float32
    assert torch.equal(one.scores, again.scores)
    assert one.heads == again.heads
    assert not torch.equal(one.scores, other.scores)
    assert 1 <= len(one.heads) <= 3


@pytest.mark.parametrize("wrong", [{"probes": 0}, {"examples": -1}, {"share": 0.0}, {"share": 1.5}])
def test_arguments_that_cannot_be_meant(wrong, toy_path):
    with pytest.raises(UsageError, match="cannot be meant"):
        retrieval_heads(Capture(opened(toy_path("llava"))), **wrong)
