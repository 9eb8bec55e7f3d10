"""Surprise of logits written by hand: per answer, and token by token as its source has it."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from tests.models.helpers import hand_batch
from vlmsift.errors import UsageError
from vlmsift.passes.loss import head_means
from vlmsift.signals import build_signals
from vlmsift.signals.surprise import Surprise

EXPECTED, SPREAD = 2 * math.log(2) - 0.75 * math.log(3), math.sqrt(3 / 16) * math.log(3)
"""Entropy, and the deviation of -log p, of a token that is "y" with 3/4 and "n" with 1/4."""
YES, NO = math.log(4 / 3), math.log(4)  # their losses


def surprise(signal: Surprise, *answers: str) -> Tensor:
    hidden = torch.full((len(answers), 4, 128), -100.0)
    hidden[:, :, ord("y")], hidden[:, :, ord("n")] = math.log(3), 0.0
    batch = hand_batch(*["spaa"] * len(answers))
    for row, answer in enumerate(answers):
        batch.labels[row, 2:] = torch.tensor([ord(letter) for letter in answer])
    adapter = SimpleNamespace(head=lambda rows: rows, text_config=SimpleNamespace(vocab_size=128))
    needs = list(signal.needs)
    return signal(batch, dict(zip(needs, head_means(adapter, batch, hidden, needs), strict=True)))


def test_counts_deviations_of_the_mean_loss_from_what_the_model_expects():
    deviation = SPREAD / math.sqrt(2) + 0.001  # of a mean over two tokens
    means = torch.tensor([YES, (YES + NO) / 2, NO])
    torch.testing.assert_close(surprise(Surprise(), "yy", "yn", "nn"), (means - EXPECTED) / deviation)


def test_token_by_token_is_the_source_s_form():
    single = torch.tensor([YES - EXPECTED, NO - EXPECTED]) / (SPREAD + 0.001)
    torch.testing.assert_close(surprise(Surprise(of="tokens"), "yn"), single.mean(0, keepdim=True))
    torch.testing.assert_close(surprise(Surprise(of="tokens", highest=0.5), "yn"), single[1:])


def test_an_answer_of_a_sure_model_stays_finite():
    hidden = torch.full((1, 4, 128), -300.0)
    hidden[:, :, ord("a")] = 300.0
    batch = hand_batch("spaa")
    adapter = SimpleNamespace(head=lambda rows: rows, text_config=SimpleNamespace(vocab_size=128))
    needs = list(Surprise().needs)
    found = Surprise()(batch, dict(zip(needs, head_means(adapter, batch, hidden, needs), strict=True)))
    assert found.tolist() == [0.0]


def test_what_cannot_be_meant():
    with pytest.raises(UsageError, match="of='words' cannot be meant; give one of answer, tokens"):
        build_signals(["surprise:of=words"])
    with pytest.raises(UsageError, match="highest=0 cannot be meant"):
        build_signals(["surprise:of=tokens,highest=0"])
