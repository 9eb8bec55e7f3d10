"""The answer's loss is the pass's, as it is."""

from __future__ import annotations

import torch

from tests.models.helpers import hand_batch
from vlmsift.passes.loss import Head
from vlmsift.signals.answer_loss import AnswerLoss


def test_the_loss_is_the_pass_s():
    loss = torch.tensor([1.25])
    assert AnswerLoss().needs == (Head("loss"),)
    assert AnswerLoss()(hand_batch("spa"), {Head("loss"): loss, Head("error_norm"): loss + 1}) is loss
