"""The words of the house as types."""

from __future__ import annotations

import dataclasses

import pytest

from tests.models.helpers import hand_batch, sample
from vlmsift.types import IMAGE_MARK, Sample, Signal, Turn


@pytest.mark.parametrize(
    ("texts", "answer"), [(("why", "so"), "so"), (("a", "b", "c", "d"), "d"), (("a", "b", "c"), "b"), (("a",), "")]
)
def test_the_answer_is_the_last_assistant_turn(texts, answer):
    assert sample("s", *texts).answer == answer


def test_a_sample_and_its_turns_cannot_be_changed():
    one = Sample("s", 0, (Turn("user", IMAGE_MARK),), (), None, {})
    for changed, name in [(one, "id"), (one.turns[0], "text")]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(changed, name, "x")


def test_a_batch_is_as_long_as_its_samples():
    assert len(hand_batch("pa", "pa", "pa")) == 3


def test_a_signal_has_a_name_a_unit_a_direction_and_needs():
    class Half:
        name, unit, needs = "half", "nats", ()

        def __call__(self, batch, measured):
            return batch.valid.float().mean(1)

    assert not isinstance(Half(), Signal)
    Half.higher_means = "fuller"
    assert isinstance(Half(), Signal)
