"""How often the host stops for the device while it measures: by a device that is not there (see `far_device`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.far_device import FAR, on_far_device, waits_of
from tests.models.helpers import batch_of, varied
from vlmsift.models import open_model
from vlmsift.passes.attention import Rows
from vlmsift.passes.capture import Capture
from vlmsift.passes.measure import measure
from vlmsift.signals import DEFAULT_SIGNALS, SIGNALS, build_signals
from vlmsift.specs import ModelSpec
from vlmsift.types import Need

EVERY = [f"{name}:heads=0.1" if name == "attention_influence" else name for name in SIGNALS]
EVERY += ["first=delta_attnmask:depth=0,rows=all,sinks=keep", "released=image_spectrum:attention=released"]
EVERY += ["dropped=delta_random:replace=drop,eligible=context,ratio=0.2", "entropies=entropy_profile:normalise=true"]


def needs_of(words: list[str]) -> list[Need]:
    return [need for signal in build_signals(words).values() for need in signal.needs]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", ["llava", "gemma3", "paligemma", "internvl"])
def test_measure_waits_for_its_results_alone(family: str, side: str, toy_path: Callable[[str], Path]):
    """Beside the model's own waits: once for all numbers; and each spectrum, whose eigenvalues are the CPU's, once."""
    adapter = open_model(ModelSpec(toy_path(family), device="cpu", dtype="float32"))
    batch, every = batch_of(adapter, varied(family)[3:], side), needs_of(EVERY)
    with Capture(adapter) as capture:
        expected = measure(capture, batch, every)
    with on_far_device(adapter.model) as device, Capture(adapter) as capture:
        with torch.no_grad():
            own = waits_of(device, lambda: adapter.backbone(batch, adapter.inputs(batch)))
        default = waits_of(device, lambda: measure(capture, batch, needs_of(list(DEFAULT_SIGNALS))))
        assert len(default) == len(own) + 1, default
        device.waits.clear()
        found = measure(capture, batch, every)
        assert len(device.waits) == len(own) + 3 <= 8, device.waits
    for need, values in expected.items():
        torch.testing.assert_close(found[need], values, atol=2e-5, rtol=1e-5, equal_nan=True)


@pytest.mark.parametrize(
    "waiting",
    [
        lambda mask, number: mask.sum().item(),
        lambda mask, number: mask.nonzero(),
        lambda mask, number: number[mask],
        lambda mask, number: bool(mask.any()),
        lambda mask, number: number.cpu(),
        lambda mask, number: number.tolist(),
        lambda mask, number: torch.equal(mask, mask),
        lambda mask, number: number[torch.tensor([1, 0])],
        lambda mask, number: torch.ones(3).to(number.device),
        lambda mask, number: Rows.where(mask),
    ],
)
def test_the_device_notices_a_wait(waiting: Callable[[torch.Tensor, torch.Tensor], object]):
    with on_far_device(torch.nn.Linear(2, 2)) as device:
        mask = torch.tensor([[True, False], [True, True]]).to(FAR)
        number = torch.rand(2, 2).to(FAR)
        assert waits_of(device, lambda: number.masked_fill(mask, 0).sum(1).sort()) == []
        assert waits_of(device, lambda: Rows.where(torch.tensor([[True]]), FAR)) == []
        assert len(waits_of(device, lambda: waiting(mask, number))) == 1
