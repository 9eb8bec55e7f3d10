"""What every signal of the table keeps to, with every family: no neighbour, padding or batch size changes a value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.helpers import batch_of, opened, varied
from tests.toys import MECHANISMS
from vlmsift.models import Adapter
from vlmsift.passes.capture import Capture
from vlmsift.passes.measure import measure
from vlmsift.signals import SIGNALS, build_signals
from vlmsift.signals.attention_influence import AttentionInfluence
from vlmsift.types import Batch, Signal

PLAIN: dict[str, Any] = {name: entry() for name, entry in SIGNALS.items()}
PLAIN["attention_influence"] = AttentionInfluence(heads="0.1+2.3")  # heads have no default
WORDS = [
    "first=delta_attnmask:depth=0,rows=all,sinks=keep",
    "last=delta_attnmask:depth=-1,eligible=context,relative=true",
    "noisy=delta_attnmask:replace=noise,eligible=all,layers=above",
    "dropped=delta_random:replace=drop,eligible=context,ratio=0.2",
    "meant=delta_bottom:replace=mean,layers=below,depth=1",
    "narrow=hidden_mean:dimensions=5,depth=1.0",
    "relative_profile=entropy_profile:normalise=true",
    "spectrum_released=image_spectrum:attention=released",
    "spectrum_answer=image_spectrum:rows=answer,top=1",
    "ifd_seen=ifd:image=seen",
    "all_concepts=concept_states:dimensions=0",
    "few_concepts=concept_states:layers=2,dimensions=6",
    "narrow_last=last_state:dimensions=5",
    "surprising_tokens=surprise:of=tokens,highest=0.3",
]
NEEDS_AN_IMAGE = {"delta_attnmask", "delta_random", "delta_bottom", "image_attention", "image_entropy", "image_gain"}
NEEDS_AN_IMAGE |= {"first", "meant", "entropy_profile", "relative_profile"}
NEEDS_AN_IMAGE |= {"image_spectrum", "spectrum_released", "spectrum_answer"}
# Differences of two large losses over a small deviation: dozens with random weights, more than float32 holds to 1e-5
RELATIVE = {"surprise": 1e-5, "surprising_tokens": 1e-5}
PARTLY_UNDEFINED = {"entropy_profile", "relative_profile"}  # layers whose window does not reach the image


@pytest.fixture(params=MECHANISMS)
def adapter(request: pytest.FixtureRequest, toy_path: Callable[[str], Path]) -> Adapter:
    return opened(toy_path(request.param))


def scored(capture: Capture, batch: Batch) -> dict[str, Tensor]:
    signals = PLAIN | build_signals(WORDS)
    found = measure(capture, batch, [need for signal in signals.values() for need in signal.needs])
    return {name: signal(batch, found) for name, signal in signals.items()}


def test_a_value_does_not_depend_on_batch_padding_or_neighbours(adapter):
    family = adapter.model.config.model_type
    samples = varied(family)
    layouts: dict[str, list[dict[str, Tensor]]] = {}
    with Capture(adapter) as capture:
        alone = [scored(capture, batch_of(adapter, [one])) for one in samples]
        layouts["left"] = [scored(capture, batch_of(adapter, samples, "left"))]
        layouts["right"] = [scored(capture, batch_of(adapter, samples))]
        turned = scored(capture, batch_of(adapter, samples[::-1]))
        layouts["turned"] = [{name: value.flip(0) for name, value in turned.items()}]
        layouts["halves"] = [scored(capture, batch_of(adapter, samples[place : place + 4])) for place in (0, 4)]
    for name in alone[0]:
        expected = torch.cat([one[name] for one in alone])
        for layout, parts in layouts.items():
            found = torch.cat([part[name] for part in parts])
            message = f"{name}, {layout}"
            torch.testing.assert_close(
                found,
                expected,
                atol=1e-5,
                rtol=RELATIVE.get(name, 0.0),
                equal_nan=True,
                msg=lambda m, t=message: f"{t}: {m}",
            )
        # rows of text alone are undefined where an image is needed, and only there
        undefined = expected.isnan().reshape(len(samples), -1)
        wordless = [not one.images and name in NEEDS_AN_IMAGE for one in samples]
        assert undefined.all(1).tolist() == wordless, name
        assert name in PARTLY_UNDEFINED or undefined.any(1).tolist() == wordless, name
        different = len(expected.reshape(len(samples), -1).nan_to_num().sum(1).unique())
        assert name == "answer_tokens" or different > len(samples) // 2, name


@pytest.mark.parametrize("name", SIGNALS)
def test_every_entry_is_a_signal(name):
    signal = SIGNALS[name]()
    assert isinstance(signal, Signal)
    assert signal.unit
    assert signal.higher_means
    assert len(signal.higher_means) < 110, "a sentence for the report"
    assert isinstance(signal.needs, tuple)
    assert all(hash(need) == hash(other) for need, other in zip(signal.needs, SIGNALS[name]().needs, strict=True))
    assert signal.needs == SIGNALS[name]().needs
    assert name == signal.name or signal.name == "delta_attnmask"
    assert type(signal).__module__ == f"vlmsift.signals.{signal.name}", "class = file = column"
    assert type(signal).__name__.lower() == signal.name.replace("_", "")
    assert type(signal).__doc__


@pytest.mark.parametrize("name", SIGNALS)
def test_a_value_is_float32_one_per_sample_or_as_wide_as_said(name, toy_path):
    adapter = opened(toy_path("llava"))
    signal = PLAIN[name]
    batch = batch_of(adapter, varied("llava")[:3])
    with Capture(adapter) as capture:
        value = signal(batch, measure(capture, batch, signal.needs))
    width = signal.width(adapter.text_config.hidden_size, adapter.depth)
    assert signal.is_vector == (value.ndim == 2)
    assert value.dtype == torch.float32
    assert value.shape == ((3,) if width == 1 else (3, width))
