"""EL2N of logits written by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch

from tests.models.helpers import hand_batch
from vlmsift.passes.loss import Head, head_means
from vlmsift.signals.el2n import El2n


def test_is_the_mean_norm_of_the_error_over_the_answer():
    letter = ord("a")  # the token id of an answer's letter
    hidden = torch.full((1, 4, 128), -100.0)
    hidden[0, 1, letter] = 100  # sure and right: 0
    hidden[0, 2, letter - 1] = 100  # sure and wrong: sqrt 2
    hidden[0, 0] = hidden[0, 3] = torch.nan  # these rows predict nothing
    batch = hand_batch("spaa")
    adapter = SimpleNamespace(head=lambda rows: rows, text_config=SimpleNamespace(vocab_size=128))
    (need,) = El2n().needs
    assert need == Head("error_norm")
    found = El2n()(batch, {need: head_means(adapter, batch, hidden, [Head("error_norm")])[0]})
    torch.testing.assert_close(found, torch.tensor([math.sqrt(2) / 2]))
