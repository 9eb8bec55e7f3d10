"""What the tests of augmentation share: a toy in train mode, a training batch, and what enters each layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.models.helpers import batch_of, opened, varied
from vlmsift.models import Adapter, open_model
from vlmsift.specs import ModelSpec
from vlmsift.types import Batch


def trainable(folder: Path) -> Adapter:
    """The toy of that folder, opened anew, in train mode and with gradients."""
    adapter = open_model(ModelSpec(folder, device="cpu", dtype="float32"))
    adapter.model.requires_grad_(True).train()
    return adapter


def training_batch(adapter: Adapter, folder: Path, family: str) -> tuple[Batch, dict[str, Any]]:
    """Four samples of different length as a trainer gives them to the model: inputs and labels."""
    batch = batch_of(opened(folder), varied(family)[:4])
    return batch, {**batch.inputs, "labels": batch.labels}


class Entering:
    """Records the states that enter each layer; opened after an augmentation, it sees what that one leaves."""

    def __init__(self, adapter: Adapter) -> None:
        self.states: dict[int, Tensor] = {}
        self.handles = [
            layer.register_forward_pre_hook(self._hook(index), with_kwargs=True)
            for index, layer in enumerate(adapter.layers)
        ]

    def _hook(self, index: int) -> Any:
        def hook(module: Any, args: Any, kwargs: Any) -> None:
            self.states[index] = (args[0] if args else kwargs["hidden_states"]).detach().clone()

        return hook

    def close(self) -> dict[int, Tensor]:
        for handle in self.handles:
            handle.remove()
        return self.states


def entering(adapter: Adapter, inputs: dict[str, Any]) -> dict[int, Tensor]:
    """Layer -> (B, T, D) of one training forward."""
    watch = Entering(adapter)
    try:
        adapter.model(**inputs)
    finally:
        states = watch.close()
    return states


def gradients(adapter: Adapter, inputs: dict[str, Any]) -> dict[str, Tensor]:
    """Parameter -> gradient of one training step."""
    adapter.model.zero_grad()
    adapter.model(**inputs).loss.backward()
    return {name: p.grad.clone() for name, p in adapter.model.named_parameters() if p.grad is not None}


def weights_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
