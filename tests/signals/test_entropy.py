"""Entropy of logits written by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch

from tests.models.helpers import hand_batch
from vlmsift.passes.loss import head_means
from vlmsift.signals.entropy import Entropy


def test_is_the_mean_doubt_over_the_answer_whatever_it_says():
    hidden = torch.zeros(2, 4, 128)
    hidden[:, 1, :4] = 100.0  # four tokens, equally likely
    hidden[:, 2, ord("b")] = 100.0  # one
    hidden[:, 0] = hidden[:, 3] = torch.nan  # these rows predict nothing
    batch = hand_batch("spaa", "spaa")
    batch.labels[1, 2:] = torch.tensor([3, ord("b")])  # another answer
    adapter = SimpleNamespace(head=lambda rows: rows, text_config=SimpleNamespace(vocab_size=128))
    (need,) = Entropy().needs
    found = Entropy()(batch, {need: head_means(adapter, batch, hidden, [need])[0]})
    torch.testing.assert_close(found, torch.full((2,), math.log(4) / 2))
