"""AttentionInfluence from given losses, and the word that names its heads."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch

from tests.models.helpers import hand_batch
from vlmsift.demo import START_PATH
from vlmsift.errors import UsageError
from vlmsift.models import open_model
from vlmsift.passes.capture import Capture
from vlmsift.passes.interventions import UniformHeadsLoss
from vlmsift.passes.retrieval import retrieval_heads
from vlmsift.signals import attention_influence
from vlmsift.signals.attention_influence import AttentionInfluence


def test_is_the_rise_as_a_share_of_the_loss_with_a_floor():
    signal = AttentionInfluence("0.1", floor=0.5)
    head, uniform = signal.needs
    losses = {head: torch.tensor([2.0, 1.0, 0.1]), uniform: torch.tensor([3.0, 0.5, 0.2])}
    found = signal(hand_batch("spa", "spa", "spa"), losses)
    torch.testing.assert_close(found, torch.tensor([0.5, -0.5, 0.2]))


def test_heads_are_read_sorted_and_once():
    signal = AttentionInfluence(" 12.3+2.10 + 12.3")
    assert signal.pairs() == ((2, 10), (12, 3))
    assert signal.needs[1] == UniformHeadsLoss(((2, 10), (12, 3)))
    assert AttentionInfluence().pairs() == ()


@pytest.mark.parametrize("heads", ["3", "1.2,3.4", "a.b", "-1.2", "1.2+3"])
def test_heads_that_cannot_be_read(heads):
    with pytest.raises(UsageError, match="is not a list of layer"):
        AttentionInfluence(heads)


def test_heads_are_found_by_the_fields_or_taken_from_a_record(monkeypatch):
    model = open_model(START_PATH)
    signal = AttentionInfluence(needle="image", probes=6, share=0.1)
    found = signal.bind(model, [])
    assert found.heads
    assert replace(found, heads="") == signal
    with Capture(model) as capture:
        assert found.heads == retrieval_heads(capture, needle="image", probes=6, share=0.1).word

    monkeypatch.setattr(attention_influence, "retrieval_heads", lambda *given, **fields: pytest.fail("found again"))
    record = {"signal": signal.name, "parameters": asdict(replace(signal, heads="1.1"))}
    assert signal.bind(model, [{"signal": "el2n", "parameters": {}}, record]).heads == "1.1"
    assert AttentionInfluence("0.1").bind(model, [record]).heads == "0.1"
    monkeypatch.undo()
    other = {**record, "parameters": {**record["parameters"], "seed": 1}}
    assert signal.bind(model, [other]).heads == found.heads, "heads found otherwise are not these"


def test_a_needle_that_is_unknown():
    with pytest.raises(UsageError, match=r"attention_influence: needle='sound' cannot be meant.*text, image"):
        AttentionInfluence(needle="sound")
    with Capture(open_model(START_PATH)) as capture, pytest.raises(UsageError, match="needle='sound' is unknown"):
        retrieval_heads(capture, needle="sound", probes=1)
