"""The answer's length, counted from the batch alone."""

from __future__ import annotations

from tests.models.helpers import hand_batch
from vlmsift.signals.answer_tokens import AnswerTokens


def test_counts_every_turn_s_supervised_tokens():
    batch = hand_batch("siipaapaa.", "..spppppa.", "aspp......")
    assert AnswerTokens()(batch, {}).tolist() == [4.0, 1.0, 0.0]  # nothing predicts the first position
