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
from vlmsift.passes.loss import STATISTICS, Head, Tokens, head_means

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


def slow(statistic: str, sample: int, highest: float = 1.0) -> float:
    values: list[float] = []
    for position in range(5):
        target = int(BATCH.labels[sample, position + 1])
        if target == -100:
            continue
        logits = HIDDEN[sample, position].double().numpy()
        probabilities = np.exp(logits) / np.exp(logits).sum()
        values.append(slow_token(statistic, probabilities, target))
    values = sorted(values, reverse=True)[: max(1, round(highest * len(values)))]
    return float(np.mean(values)) if values else math.nan


def slow_token(statistic: str, probabilities: Any, target: int) -> float:
    information = [-math.log(one) for one in probabilities]
    entropy = sum(p * nats for p, nats in zip(probabilities, information, strict=True))
    variance = sum(p * (nats - entropy) ** 2 for p, nats in zip(probabilities, information, strict=True))
    return {
        "loss": information[target],
        "error_norm": float(np.linalg.norm(probabilities - np.eye(VOCABULARY)[target])),
        "entropy": entropy,
        "variance": variance,
        "surprise": (information[target] - entropy) / (math.sqrt(variance) + 0.001),
    }[statistic]


@pytest.mark.parametrize("rows_at_once", [1, 2, 100])
def test_equals_the_mean_token_by_token(rows_at_once, monkeypatch):
    monkeypatch.setattr(loss, "HEAD_ELEMENTS", rows_at_once * VOCABULARY)
    adapter, given = reading_aloud()
    heads = [*map(Head, STATISTICS), Head("surprise", 0.5), Head("loss", 0.1)]
    for values, need in zip(head_means(adapter, BATCH, HIDDEN, heads), heads, strict=True):
        assert values.dtype == torch.float32
        expected = [slow(need.statistic, row, need.highest) for row in range(3)]
        np.testing.assert_allclose(values, expected, atol=1e-5, err_msg=str(need))
    assert max(len(rows) for rows in given) <= rows_at_once
    assert torch.equal(torch.cat(given), HIDDEN[BATCH.query_mask])


def test_nothing_supervised_anywhere_is_undefined():
    adapter, _ = reading_aloud()
    values = head_means(adapter, hand_batch("spp", "sp."), HIDDEN[:2, :3], [Head()])[0]
    assert values.isnan().tolist() == [True, True]


def test_a_neighbour_does_not_change_the_last_bit():
    adapter, _ = reading_aloud()
    together = head_means(adapter, BATCH, HIDDEN, [Head()])[0]
    alone = hand_batch("spaapa")
    assert torch.equal(head_means(adapter, alone, HIDDEN[1:2], [Head()])[0], together[1:2])


def test_half_precision_states_are_judged_in_float32():
    adapter, _ = reading_aloud()
    half = head_means(adapter, BATCH, HIDDEN.bfloat16(), [Head("loss"), Head("error_norm")])
    full = head_means(adapter, BATCH, HIDDEN.bfloat16().float(), [Head("loss"), Head("error_norm")])
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
    assert Tokens(given, target).loss.item() == pytest.approx(nats, abs=1e-6)
    assert Tokens(given, target).error_norm.item() == pytest.approx(norm, abs=1e-6)


@pytest.mark.parametrize(
    ("logits", "entropy", "variance"),
    [
        ([0.0, 0.0, 0.0, 0.0], math.log(4), 0.0),  # nothing is known, and that is certain
        ([200.0, -200.0], 0.0, 0.0),
        # p = 3/4, 1/4: -log p lies log 3 apart, so its variance is 3/16 of (log 3)^2
        ([math.log(3), 0.0], 2 * math.log(2) - 0.75 * math.log(3), 3 / 16 * math.log(3) ** 2),
        ([0.0, -math.inf, 0.0], math.log(2), 0.0),  # a token that cannot occur
    ],
)
def test_closed_forms_of_the_model_s_own_doubt(logits, entropy, variance):
    given, target = torch.tensor([logits]), torch.tensor([0])
    assert Tokens(given, target).entropy.item() == pytest.approx(entropy, abs=1e-6)
    assert Tokens(given, target).variance.item() == pytest.approx(variance, abs=1e-6)
