"""Pooled states as unit vectors, narrowed by a seeded projection that keeps angles."""

from __future__ import annotations

import pytest
import torch

from tests.models.helpers import hand_batch
from vlmsift.passes.hidden import PooledHidden
from vlmsift.signals.hidden_mean import HiddenMean

WIDE = torch.randn(40, 512, generator=torch.Generator().manual_seed(0))
BATCH = hand_batch(*["spa"] * 40)


def vectors(**fields: float) -> torch.Tensor:
    signal = HiddenMean(**fields)
    return signal(BATCH, {PooledHidden(signal.depth): WIDE})


@pytest.mark.parametrize(("dimensions", "width"), [(256, 256), (3, 3), (0, 512), (512, 512), (600, 512)])
def test_is_a_unit_vector_as_wide_as_said(dimensions, width):
    found = vectors(dimensions=dimensions)
    assert found.shape == (40, width)
    assert HiddenMean(dimensions=dimensions).width(512, 4) == width
    torch.testing.assert_close(found.norm(dim=1), torch.ones(40))


def test_all_dimensions_are_the_states_themselves():
    torch.testing.assert_close(vectors(dimensions=0), WIDE / WIDE.norm(dim=1, keepdim=True))


def test_the_projection_keeps_angles_and_depends_on_its_seed():
    whole, narrow = vectors(dimensions=0), vectors(dimensions=256)
    assert (whole @ whole.T - narrow @ narrow.T).abs().mean() < 0.06
    assert torch.equal(narrow, vectors(dimensions=256))
    assert not torch.equal(narrow, vectors(dimensions=256, seed=1))


def test_depth_reaches_the_pass():
    assert HiddenMean(depth=0.25).needs == (PooledHidden(0.25),)
