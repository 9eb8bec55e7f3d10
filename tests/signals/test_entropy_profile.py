"""The profile is the pass's, in nats or as a share."""

from __future__ import annotations

import torch

from tests.models.helpers import hand_batch
from vlmsift.passes.entropy import EntropyProfile as Profile
from vlmsift.signals.entropy_profile import EntropyProfile


def test_is_the_profile_as_wide_as_the_model_is_deep():
    nats, share = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 1.0]])
    both = {Profile(): nats, Profile(normalise=True): share}
    assert EntropyProfile()(hand_batch("siipa"), both) is nats
    assert EntropyProfile(normalise=True)(hand_batch("siipa"), both) is share
    assert (EntropyProfile().unit, EntropyProfile(normalise=True).unit) == ("nats", "share of the maximum")
    assert EntropyProfile().width(64, 2) == 2
