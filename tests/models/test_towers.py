"""Towers that attend window by window do so in one call for all equal windows, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.models.helpers import ask, batch_of, opened, varied
from tests.toys import FAMILIES, VARIANTS
from vlmsift.models import Adapter, open_model
from vlmsift.models.towers import GROUPED, grouped_windows
from vlmsift.passes.capture import Capture
from vlmsift.passes.measure import measure
from vlmsift.specs import ModelSpec

LOOPING = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "glm4v")
"""The families whose tower goes window by window, or image by image."""


@contextmanager
def counted_attention(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many windows each call of the fused kernel is given."""
    calls: list[int] = []
    kernel = nn.functional.scaled_dot_product_attention

    def counting(query: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(len(query))
        return kernel(query, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(nn.functional, "scaled_dot_product_attention", counting)
        yield calls


def states(adapter: Adapter, images: int) -> torch.Tensor:
    """Of samples that show one square image each: (B, T, D)."""
    batch = batch_of(adapter, [ask(f"s{number}", "what?", "a thing", f"60x60#{number}") for number in range(images)])
    with torch.no_grad():
        return adapter.backbone(batch, adapter.inputs(batch))


@pytest.mark.parametrize("family", LOOPING)
def test_windows_together_are_bit_for_bit_the_windows_one_by_one(family: str, toy_path: Callable[[str], Path]):
    adapter = opened(toy_path(family))
    batch = batch_of(adapter, varied(family))
    with torch.no_grad():
        slow = adapter.backbone(batch, adapter.inputs(batch))
        with grouped_windows(adapter.model):
            fast = adapter.backbone(batch, adapter.inputs(batch))
    assert torch.equal(fast, slow)


@pytest.mark.parametrize("family", FAMILIES + VARIANTS)
def test_while_scoring_more_images_of_one_size_take_no_more_calls(
    family: str, toy_path: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
):
    adapter = opened(toy_path(family))
    with Capture(adapter), counted_attention(monkeypatch) as one:
        states(adapter, 1)
    with Capture(adapter), counted_attention(monkeypatch) as four:
        states(adapter, 4)
    assert len(one) == len(four) > 0


@pytest.mark.parametrize("family", LOOPING)
def test_the_models_own_way_takes_a_call_for_each_window(
    family: str, toy_path: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
):
    """So that the test above would see it; and outside a capture nothing is changed."""
    adapter = opened(toy_path(family))
    with counted_attention(monkeypatch) as one:
        states(adapter, 1)
    with counted_attention(monkeypatch) as four:
        states(adapter, 4)
    layers = adapter.depth
    assert len(four) - layers == 4 * (len(one) - layers) > 0
    with grouped_windows(adapter.model), counted_attention(monkeypatch) as grouped:
        states(adapter, 4)
    assert sum(grouped) == sum(four)  # as many windows, the text's four rows among them


def test_windows_of_several_lengths_take_one_call_for_each_length(
    toy_path: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
):
    adapter = opened(toy_path("qwen2_vl"))
    samples = [ask(f"s{n}", "what?", "it", size) for n, size in enumerate(["60x60#1", "120x60#2", "60x60#3"])]
    batch = batch_of(adapter, samples)
    sizes = batch.inputs["image_grid_thw"].unique(dim=0)
    assert len(sizes) == 2  # by area too
    with Capture(adapter) as capture, counted_attention(monkeypatch) as calls:
        measure(capture, batch, [])
    tower = adapter.model.config.vision_config.depth
    assert len(calls) == adapter.depth + len(sizes) * tower


def test_gradients_pass_through_as_they_do_window_by_window(toy_path: Callable[[str], Path]):
    adapter = opened(toy_path("qwen2_5_vl"))
    batch = batch_of(adapter, varied("qwen2_5_vl")[:3])

    def gradient() -> torch.Tensor:
        inputs = adapter.inputs(batch)
        pixels = inputs["pixel_values"] = inputs["pixel_values"].clone().requires_grad_()
        return torch.autograd.grad(adapter.backbone(batch, inputs).square().sum(), pixels)[0]

    slow = gradient()
    with grouped_windows(adapter.model):
        fast = gradient()
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-6 * float(slow.abs().max()))


def test_a_tower_is_put_back_and_one_of_another_kernel_is_left_alone(toy_path: Callable[[str], Path]):
    adapter = open_model(ModelSpec(toy_path("qwen2_5_vl"), device="cpu", dtype="float32"))
    tower = adapter.model.config.vision_config
    with grouped_windows(adapter.model):
        assert tower._attn_implementation == GROUPED
    assert tower._attn_implementation == "sdpa"
    with pytest.raises(ZeroDivisionError), grouped_windows(adapter.model):
        1 / 0  # noqa: B018
    assert tower._attn_implementation == "sdpa"
    tower._attn_implementation = "eager"
    with grouped_windows(adapter.model):
        assert tower._attn_implementation == "eager"
