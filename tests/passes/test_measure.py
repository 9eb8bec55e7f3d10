"""Every need from few forwards: against slow twins that run the whole model again, and how often each part runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.helpers import batch_of, opened, varied
from tests.toys import MECHANISMS as FAMILIES
from vlmsift.models import Adapter
from vlmsift.passes import attention, intervene
from vlmsift.passes.attention_received import AttentionReceived, ImageAttention
from vlmsift.passes.capture import Capture, set_text_attention
from vlmsift.passes.hidden import PooledHidden
from vlmsift.passes.interventions import BlindLoss, MaskedLoss
from vlmsift.passes.loss import Head, head_means
from vlmsift.passes.masking import Masking, choose_tokens, replace_states
from vlmsift.passes.measure import measure
from vlmsift.proofs import hooked_loss
from vlmsift.types import Batch

CLOSE = {"atol": 1e-5, "rtol": 0, "equal_nan": True}


@pytest.fixture(params=FAMILIES)
def adapter(request: pytest.FixtureRequest, toy_path: Callable[[str], Path]) -> Adapter:
    return opened(toy_path(request.param))


def mixed(adapter: Adapter, side: str = "right") -> Batch:
    """Four samples of different length; where the family takes them, several turns, no image, and a system turn."""
    return batch_of(adapter, varied(adapter.model.config.model_type)[4:], side)


def measured(adapter: Adapter, batch: Batch, *needs: Any) -> dict[Any, Tensor]:
    with Capture(adapter) as capture:
        return measure(capture, batch, needs)


@pytest.mark.parametrize("replace", ["zero", "mean", "noise"])
def test_a_masked_loss_equals_the_whole_model_with_a_hook(adapter, replace):
    batch = mixed(adapter)
    for depth in range(adapter.depth):
        masking = Masking(depth=depth, replace=replace, eligible="context", rows="all")
        need, ranking = MaskedLoss(masking), masking.ranking(adapter.depth)
        found = measured(adapter, batch, need, ranking)
        chosen = choose_tokens(masking, batch, found[ranking])
        assert chosen.any(1).all()
        torch.testing.assert_close(found[need], hooked_loss(adapter, batch, depth, masking, chosen), **CLOSE)
        assert (found[need] - found[Head()]).abs().min() > 1e-4


@pytest.mark.parametrize("replace", ["zero", "mean"])
def test_masking_at_every_layer_equals_the_whole_model_with_hooks_on_all_of_them(adapter, replace):
    batch = mixed(adapter)
    for depth in range(adapter.depth):
        masking = Masking(depth=depth, replace=replace, eligible="context", rows="all", where="every")
        need, ranking = MaskedLoss(masking), masking.ranking(adapter.depth)
        once = MaskedLoss(dataclasses.replace(masking, where="once"))
        found = measured(adapter, batch, need, once, ranking)
        chosen = choose_tokens(masking, batch, found[ranking])

        def hook(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
            states = replace_states(masking, batch, args[0] if args else kwargs["hidden_states"], chosen)  # noqa: B023
            return ((states, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": states})

        handles = [layer.register_forward_pre_hook(hook, with_kwargs=True) for layer in adapter.layers[depth:]]
        with torch.no_grad():
            slow = head_means(adapter, batch, adapter.backbone(batch, adapter.inputs(batch)), [Head()])[0]
        for handle in handles:
            handle.remove()
        torch.testing.assert_close(found[need], slow, **CLOSE)
        same = depth == adapter.depth - 1  # the last layer's input is masked once either way
        assert torch.equal(found[need], found[once]) == same


def eager_without_keys(adapter: Adapter, batch: Batch, dropped: Tensor, first: int) -> Tensor:
    """The slow twin of dropped keys: the whole model in eager attention, its masks changed from layer `first` on."""

    def hook(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        mask = kwargs["attention_mask"]  # (B, 1, T, T), added to the scores
        length = mask.shape[-1]
        others = dropped[:, None, None, :] & ~torch.eye(length, dtype=torch.bool)
        return args, {**kwargs, "attention_mask": mask.masked_fill(others, torch.finfo(mask.dtype).min)}

    handles = [layer.register_forward_pre_hook(hook, with_kwargs=True) for layer in adapter.layers[first:]]
    before = adapter.text.config._attn_implementation
    set_text_attention(adapter, "eager")
    try:
        with torch.no_grad():
            return head_means(adapter, batch, adapter.backbone(batch, adapter.inputs(batch)), [Head()])[0]
    finally:
        set_text_attention(adapter, before)
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("side", ["left", "right"])
def test_dropped_keys_equal_the_whole_model_with_other_masks(adapter, side):
    batch = mixed(adapter, side)
    needs: list[Any] = [BlindLoss()]
    for depth in range(adapter.depth):
        masking = Masking(depth=depth, replace="drop", eligible="context", rows="all")
        needs += [MaskedLoss(masking), masking.ranking(adapter.depth)]
    found = measured(adapter, batch, *needs)
    for need in needs[1::2]:
        depth, chosen = (
            need.masking.depth,
            choose_tokens(need.masking, batch, found[need.masking.ranking(adapter.depth)]),
        )
        torch.testing.assert_close(found[need], eager_without_keys(adapter, batch, chosen, depth), **CLOSE)
        assert (found[need] - found[Head()]).abs().min() > 1e-4
    blind = eager_without_keys(adapter, batch, batch.image_mask, 0)
    has_image = batch.image_mask.any(1)
    torch.testing.assert_close(found[BlindLoss()], blind.masked_fill(~has_image, torch.nan), **CLOSE)
    assert (found[BlindLoss()] - found[Head()])[has_image].abs().min() > 1e-4


@torch.no_grad()
def test_the_loss_is_the_model_s_own(adapter):
    samples = varied(adapter.model.config.model_type)
    found = measured(adapter, batch_of(adapter, samples))[Head()]
    for one, loss in zip(samples, found, strict=True):
        alone = batch_of(adapter, [one])
        own = adapter.model(**alone.inputs, labels=alone.labels, use_cache=False).loss
        torch.testing.assert_close(loss, own, atol=1e-5, rtol=0)


GRID = [
    MaskedLoss(Masking(depth=depth, replace=replace, choose=choose, eligible="context"))
    for depth in (0, 0.5, -1)
    for replace, choose in [("zero", "top"), ("zero", "bottom"), ("mean", "random"), ("drop", "top"), ("noise", "top")]
]
OTHERS = [
    BlindLoss(),
    ImageAttention(),
    AttentionReceived("all"),
    PooledHidden(0.5),
    PooledHidden(1.0),
    Head("error_norm"),
]


def test_many_needs_at_once_equal_one_by_one(adapter):
    batch = mixed(adapter, "left")
    with Capture(adapter) as capture:
        together = measure(capture, batch, GRID + OTHERS)
        for need in GRID + OTHERS:
            torch.testing.assert_close(
                measure(capture, batch, [need])[need], together[need], atol=1e-6, rtol=0, equal_nan=True
            )
    assert set(together) == {*GRID, *OTHERS, Head()}
    assert all(value.dtype == torch.float32 and value.device.type == "cpu" for value in together.values())


@contextmanager
def counted(adapter: Adapter) -> Iterator[dict[str, int]]:
    """How often the parts of a model run, and the widest input of its head."""
    calls = {"model": 0, "vision": 0, "layers": 0, "head rows": 0}
    vision = next(
        part
        for name, part in adapter.model.named_modules()
        if name.endswith(("vision_tower", "visual", "vision_model"))
    )

    def count(name: str) -> Callable[..., None]:
        def hook(*arguments: Any) -> None:
            calls[name] += 1

        return hook

    def head(part: Any, args: tuple[Tensor, ...]) -> None:
        assert args[0].ndim == 2
        calls["head rows"] += len(args[0])

    handles = [
        adapter.model.base_model.register_forward_pre_hook(count("model")),
        vision.register_forward_pre_hook(count("vision")),
        adapter.model.get_output_embeddings().register_forward_pre_hook(head),
        *(layer.register_forward_pre_hook(count("layers")) for layer in adapter.layers),
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def test_one_forward_one_encoding_and_the_head_at_answers_only(adapter):
    batch = mixed(adapter)
    rows = int((batch.labels[:, 1:] != -100).sum())
    last = MaskedLoss(Masking(depth=-1))
    with counted(adapter) as calls:
        measured(adapter, batch, *OTHERS[1:])
    assert calls == {"model": 1, "vision": 1, "layers": adapter.depth, "head rows": rows}
    with counted(adapter) as calls:
        measured(adapter, batch, last, *OTHERS[1:])
    assert calls == {"model": 1, "vision": 1, "layers": adapter.depth + 1, "head rows": 2 * rows}
    with counted(adapter) as calls:
        measured(adapter, batch, last, MaskedLoss(Masking(depth=0)), *OTHERS)
    assert calls == {"model": 1, "vision": 1, "layers": 3 * adapter.depth + 1, "head rows": 4 * rows}


def test_features_that_enter_between_layers_are_not_lost(toy_path):
    """Qwen3-VL adds visual features after its first layers; below the last of them the whole decoder runs again."""
    adapter = opened(toy_path("qwen3_vl"))
    batch = mixed(adapter)
    runs = []
    for depth in range(adapter.depth):
        with counted(adapter) as calls:
            measured(adapter, batch, MaskedLoss(Masking(depth=depth)))
        runs.append(calls["layers"] - adapter.depth)
    assert runs == [5, 5, 3, 2, 1]


def test_attention_is_never_whole(adapter, monkeypatch):
    batch = mixed(adapter)
    heads, length = adapter.text_config.num_attention_heads, batch.valid.shape[1]
    monkeypatch.setattr(attention, "CHUNK_ELEMENTS", 2 * len(batch) * heads * length)
    sizes: list[int] = []
    whole = intervene.attention_chunks

    def spied(*positional: Any, **named: Any) -> Iterator[Any]:
        for seen in whole(*positional, **named):
            sizes.append(seen.probabilities.numel())
            yield seen

    monkeypatch.setattr(intervene, "attention_chunks", spied)
    needs = [AttentionReceived("all"), AttentionReceived("answer"), ImageAttention()]
    measured(adapter, batch, *needs)
    assert 0 < max(sizes) <= attention.CHUNK_ELEMENTS
    per_row = len(batch) * heads * length
    monkeypatch.setattr(attention, "CHUNK_ELEMENTS", 1)
    sizes.clear()
    measured(adapter, batch, *needs)
    assert max(sizes) <= per_row
    # the answer's rows are looked at once for both needs that ask for them
    assert len(sizes) == adapter.depth * (length + int(batch.query_mask.sum(1).max()))


def test_a_sample_without_eligible_tokens_is_undefined_and_a_batch_of_them_costs_nothing(toy_path):
    adapter = opened(toy_path("llava"))
    samples = varied("llava")
    words = [one for one in samples if not one.images]
    needs = [MaskedLoss(Masking()), MaskedLoss(Masking(eligible="context")), BlindLoss(), ImageAttention()]
    found = measured(adapter, batch_of(adapter, [*samples[:2], *words]), *needs)
    assert found[needs[0]].isnan().tolist() == [False, False, True]
    assert found[needs[1]].isnan().tolist() == [False, False, False]
    assert found[needs[2]].isnan().tolist() == [False, False, True]
    with counted(adapter) as calls:
        alone = measured(adapter, batch_of(adapter, words), needs[0], *needs[2:])
    assert calls["layers"] == adapter.depth
    assert all(alone[need].isnan().all() for need in (needs[0], *needs[2:]))


def test_pooled_states_are_those_that_enter_the_layer(adapter):
    batch = mixed(adapter)
    inside = batch.valid & (batch.labels == -100)
    states: dict[int, Tensor] = {}

    def entering(index: int) -> Callable[..., None]:
        return lambda layer, args, kwargs: states.update({index: args[0] if args else kwargs["hidden_states"]})

    handles = [
        layer.register_forward_pre_hook(entering(index), with_kwargs=True) for index, layer in enumerate(adapter.layers)
    ]
    with torch.no_grad():
        states[-1] = adapter.backbone(batch, adapter.inputs(batch))
    for handle in handles:
        handle.remove()
    found = measured(adapter, batch, *[PooledHidden(depth) for depth in (0.0, 0.5, 0.99, 1.0)])
    for depth, layer in [(0.0, 0), (0.5, adapter.depth // 2), (0.99, adapter.depth - 1), (1.0, -1)]:
        expected = torch.stack([row[keep].mean(0) for row, keep in zip(states[layer], inside, strict=True)])
        torch.testing.assert_close(found[PooledHidden(depth)], expected, atol=1e-5, rtol=0)
