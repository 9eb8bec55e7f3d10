"""Every field of the spectrum reaches its pass."""

from __future__ import annotations

import pytest
import torch

from tests.models.helpers import hand_batch
from vlmsift.errors import UsageError
from vlmsift.passes.spectrum import ImageSpectrum as TrueSpectrum
from vlmsift.passes.spectrum import ReleasedSpectrum
from vlmsift.signals.image_spectrum import ImageSpectrum


def test_fields_reach_the_pass():
    assert ImageSpectrum().needs == (TrueSpectrum("text", 5),)
    assert ImageSpectrum(rows="answer", top=2).needs == (TrueSpectrum("answer", 2),)
    assert ImageSpectrum("released", "answer", 1).needs == (ReleasedSpectrum("answer", 1),)


def test_is_what_was_measured():
    value = torch.tensor([3.5])
    assert ImageSpectrum()(hand_batch("siipa"), {TrueSpectrum(): value}) is value


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"attention": "ture"}, r"image_spectrum: attention='ture' cannot be meant.*true, released"),
        ({"rows": "all"}, r"image_spectrum: rows='all' cannot be meant.*text, answer"),
        ({"top": 0}, "top=0 cannot be meant"),
    ],
)
def test_what_cannot_be_meant(wrong, told):
    with pytest.raises(UsageError, match=told):
        ImageSpectrum(**wrong)
