"""Concept states from given means: halves, norms, and the projection that keeps halves apart."""

from __future__ import annotations

import math

import pytest
import torch

from tests.models.helpers import hand_batch
from vlmsift.passes.states import AttentionOutputs
from vlmsift.signals.concept_states import ConceptStates

BATCH = hand_batch("siipa", "spppa")
MEANS = torch.tensor([[0.5, 0.0, 0.0, 2.0, 1.0, 1.0, 3.0, 0.0], [*[math.nan] * 4, 0.0, 0.2, 0.3, 0.3]])
"""Two layers of width 2: the image's means of both, then the text's. The second sample has no image."""


def test_by_hand():
    found = ConceptStates(layers=2, dimensions=0)(BATCH, {AttentionOutputs(2): MEANS})
    half, root = 0.5, math.sqrt(0.125)  # four parts of norm 1/2; two of norm 1 / sqrt 2 where there is no image
    one, both = math.sqrt(0.5), 0.5
    expected = [[half, 0, 0, half, root, root, half, 0], [0, 0, 0, 0, 0, one, both, both]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_tanh_comes_before_the_norm():
    means = torch.tensor([[0.1, 5.0, 1.0, 0.0]])
    image = ConceptStates(layers=1, dimensions=0)(hand_batch("sipa"), {AttentionOutputs(1): means})
    expected = math.tanh(0.1) / math.hypot(math.tanh(0.1), math.tanh(5.0)) / math.sqrt(2)
    assert image[0, 0].item() == pytest.approx(expected)


def test_the_projection_keeps_norm_halves_and_angles():
    wide = torch.randn(30, 2 * 2 * 300, generator=torch.Generator().manual_seed(0))
    wide[3, :600] = math.nan
    batch, measured = hand_batch(*["sipa"] * 30), {AttentionOutputs(2): wide}
    whole = ConceptStates(2, 0)(batch, measured)
    narrow = ConceptStates(2, 512)(batch, measured)
    assert narrow.shape == (30, 512)
    torch.testing.assert_close(narrow.norm(dim=1), torch.ones(30))
    assert (whole @ whole.T - narrow @ narrow.T).abs().mean() < 0.06
    assert (narrow[3, :256] == 0).all()
    changed = wide.clone()
    changed[:, 600:] = wide[:, 600:].flip(1)
    again = ConceptStates(2, 512)(batch, {AttentionOutputs(2): changed})
    cosine = torch.nn.functional.cosine_similarity
    torch.testing.assert_close(cosine(narrow[:3, :256], again[:3, :256]), torch.ones(3))
    assert cosine(narrow[:, 256:], again[:, 256:]).abs().max() < 0.6
    assert not torch.equal(ConceptStates(2, 512, seed=1)(batch, measured), narrow)


@pytest.mark.parametrize(("dimensions", "width"), [(0, 640), (100, 100), (640, 640), (1024, 640)])
def test_width(dimensions, width):
    assert ConceptStates(5, dimensions).width(64, 3) == width


def test_nothing_is_projected_unless_asked():
    assert ConceptStates().width(2048, 24) == 2 * 5 * 2048  # 82 kB
