"""The head's statistics at supervised positions: closed forms, one by one in NumPy, and which rows the head sees."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.helpers import hand_batch
from vlmsift.passes import loss
from vlmsift.passes.loss import cross_entropy, error_norm, head_means

VOCABULARY = 128  # letters are token ids, so the targets are "a"
BATCH = hand_batch("spaa..", "spaapa", "sppp..")
HIDDEN = 3 * torch.randn(3, 6, VOCABULARY, generator=torch.Generator().manual_seed(0))


def reading_aloud() -> tuple[Any, list[Tensor]]:
    """An adapter whose hidden states are the logits, and what its head was given."""
    given: list[Tensor] = []

    def head(rows: Tensor) -> Tensor:
        given.append(rows)
        return rows.float()

    return SimpleNamespace(head=head, text_config=SimpleNamespace(vocab_size=VOCABULARY)), given


def slow(statistic: str, sample: int) -> float:
    values = []
    for position in range(5):
        target = int(BATCH.labels[sample, position + 1])
        if target == -100:
            continue
        logits = HIDDEN[sample, position].double().numpy()
        probabilities = np.exp(logits) / np.exp(logits).sum()
        truth = np.eye(VOCABULARY)[target]
        values.append(
            -math.log(probabilities[target]) if statistic == "loss" else np.linalg.norm(probabilities - truth)
        )
    return float(np.mean(values)) if values else math.nan


@pytest.mark.parametrize("rows_at_once", [1, 2, 100])
def test_equals_the_mean_token_by_token(rows_at_once, monkeypatch):
    monkeypatch.setattr(loss, "HEAD_ELEMENTS", rows_at_once * VOCABULARY)
    adapter, given = reading_aloud()
    found = head_means(adapter, BATCH, HIDDEN, ["loss", "error_norm"])
    for values, statistic in zip(found, ["loss", "error_norm"], strict=True):
        assert values.dtype == torch.float32
        np.testing.assert_allclose(values, [slow(statistic, row) for row in range(3)], atol=1e-6)
    assert max(len(rows) for rows in given) <= rows_at_once
    assert torch.equal(torch.cat(given), HIDDEN[BATCH.query_mask])


def test_nothing_supervised_anywhere_is_undefined():
    adapter, _ = reading_aloud()
    values = head_means(adapter, hand_batch("spp", "sp."), HIDDEN[:2, :3], ["loss"])[0]
    assert values.isnan().tolist() == [True, True]


def test_a_neighbour_does_not_change_the_last_bit():
    adapter, _ = reading_aloud()
    together = head_means(adapter, BATCH, HIDDEN, ["loss"])[0]
    alone = hand_batch("spaapa")
    assert torch.equal(head_means(adapter, alone, HIDDEN[1:2], ["loss"])[0], together[1:2])


def test_half_precision_states_are_judged_in_float32():
    adapter, _ = reading_aloud()
    half = head_means(adapter, BATCH, HIDDEN.bfloat16(), ["loss", "error_norm"])
    full = head_means(adapter, BATCH, HIDDEN.bfloat16().float(), ["loss", "error_norm"])
    assert torch.equal(torch.stack(half)[:, :2], torch.stack(full)[:, :2])


@pytest.mark.parametrize(
    ("logits", "nats", "norm"),
    [
        ([0.0, 0.0], math.log(2), math.sqrt(0.5)),
        ([50.0, -50.0], 0.0, 0.0),
        ([-50.0, 50.0], 100.0, math.sqrt(2)),
        ([0.0, 0.0, 0.0, 0.0], math.log(4), math.sqrt(0.75)),
    ],
)
def test_closed_forms(logits, nats, norm):
    given, target = torch.tensor([logits]), torch.tensor([0])
    assert cross_entropy(given, target).item() == pytest.approx(nats, abs=1e-6)
    assert error_norm(given, target).item() == pytest.approx(norm, abs=1e-6)
