"""Attention outputs and last states, against hooks of the test's own on every family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.helpers import batch_of, hand_batch, opened, varied
from tests.toys import MECHANISMS as FAMILIES
from vlmsift.models import Adapter
from vlmsift.passes.capture import Capture
from vlmsift.passes.interventions import MaskedLoss
from vlmsift.passes.masking import Masking
from vlmsift.passes.measure import measure
from vlmsift.passes.states import AttentionOutputs, LastState, gaussian, text_after_image

NEEDS: list[Any] = [AttentionOutputs(), AttentionOutputs(2), LastState()]


@pytest.fixture(params=FAMILIES)
def adapter(request: pytest.FixtureRequest, toy_path: Callable[[str], Path]) -> Adapter:
    return opened(toy_path(request.param))


@pytest.mark.parametrize(
    ("layers", "depth", "expected"),
    [
        (5, 24, (3, 7, 11, 15, 19)),
        (5, 32, (5, 10, 15, 21, 26)),
        (5, 3, (0, 0, 1, 1, 2)),
        (2, 3, (0, 1)),
        (1, 1, (0,)),
    ],
)
def test_layers_are_spread_evenly(layers, depth, expected):
    assert AttentionOutputs(layers).chosen(depth) == expected


@pytest.mark.parametrize("side", ["left", "right"])
def test_states_are_those_of_the_model(adapter, side):
    batch = batch_of(adapter, varied(adapter.model.config.model_type)[4:], side)
    outputs: dict[int, Tensor] = {}

    def keep(index: int) -> Callable[..., None]:
        return lambda module, args, output: outputs.update({index: output})

    handles = [layer.self_attn.o_proj.register_forward_hook(keep(index)) for index, layer in enumerate(adapter.layers)]
    with torch.no_grad():
        last = adapter.backbone(batch, adapter.inputs(batch))
    for handle in handles:
        handle.remove()
    with Capture(adapter) as capture:
        # a masked loss runs layers and norm again, which must not be taken for the first pass
        found = measure(capture, batch, [*NEEDS, MaskedLoss(Masking(depth=0, eligible="context"))])
    for need in NEEDS[:2]:
        layers = need.chosen(adapter.depth)
        for sample in range(len(batch)):
            image, valid, index = batch.image_mask[sample], batch.valid[sample], batch.image_index[sample]
            ends = [place for place, number in enumerate(index.tolist()) if number == 0]
            after = torch.arange(len(valid)) > max(ends, default=-1)
            kinds = (image, valid & ~image & after)
            halves = [outputs[layer][sample, keep].mean(0) for keep in kinds for layer in layers]
            torch.testing.assert_close(found[need][sample], torch.cat(halves), atol=1e-5, rtol=0, equal_nan=True)
    for sample in range(len(batch)):
        place = batch.valid[sample].nonzero()[-1, 0]
        torch.testing.assert_close(found[LastState()][sample], last[sample, place], atol=1e-5, rtol=0)


def test_text_begins_where_the_first_image_ends():
    """A system prompt, an image of two rows with a mark between, the question, a second image, the answer."""
    batch = hand_batch(".ssppipippipaas", "spppppppppaaa..")
    batch.image_index[0, 10] += 1
    assert batch.image_index[0].tolist() == [-1] * 5 + [0, -1, 0, -1, -1, 1, -1, -1, -1, -1]
    expected = [[0] * 8 + [1, 1, 0, 1, 1, 1, 1], [1] * 13 + [0] * 2]
    assert text_after_image(batch).int().tolist() == expected


def test_the_projection_is_seeded_and_keeps_lengths():
    assert torch.equal(gaussian(400, 100, 1), gaussian(400, 100, 1))
    assert not torch.equal(gaussian(400, 100, 1), gaussian(400, 100, 2))
    whole = torch.nn.functional.normalize(torch.randn(50, 400, generator=torch.Generator().manual_seed(0)), dim=1)
    assert ((whole @ gaussian(400, 100, 1)).norm(dim=1) - 1).abs().mean() < 0.1
