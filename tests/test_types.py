"""The words of the house as types."""

from __future__ import annotations

import dataclasses

import pytest

from tests.models.helpers import hand_batch, sample
from vlmsift.types import IMAGE_MARK, Need, Sample, Signal, Turn


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


class Half(Signal):
    """Half of what is valid."""

    name, unit = "half", "tokens"

    def __init__(self, of=2):
        self.of, self._seen = of, 0

    def __call__(self, batch, measured):
        return batch.valid.sum(1) / self.of


def test_a_signal_has_a_name_a_unit_and_a_direction():
    with pytest.raises(TypeError, match="higher_means"):
        Half()

    class Whole(Half):
        higher_means = "longer"

    one = Whole(3)
    assert (one.width(64, 4), one.is_vector, one.good, one.needs) == (1, False, None, ())
    assert one.bind(None, []) is one
    assert one.parameters() == {"of": 3}


def test_a_need_costs_nothing_beyond_the_first_pass_unless_it_says_so():
    assert Need().cost(5) == 0
