"""A model's fingerprint stays the same when it is opened again, and changes with whatever changes its numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from vlmsift.models import Adapter, open_model
from vlmsift.models.fingerprint import fingerprint
from vlmsift.specs import ModelSpec


@pytest.fixture
def adapter(toy_path) -> Adapter:
    return open_model(ModelSpec(toy_path("llava"), device="cpu", dtype="float32"))


def test_is_the_same_for_the_same_folder_and_plain_json(adapter, toy_path):
    found = fingerprint(adapter)
    assert fingerprint(open_model(ModelSpec(toy_path("llava"), device="cpu", dtype="float32"))) == found
    assert json.loads(json.dumps(found)) == found
    assert found["name"] == str(toy_path("llava"))
    assert (found["family"], found["dtype"], found["revision"]) == ("llava", "float32", None)


@torch.no_grad()
def one_weight(adapter: Adapter) -> Any:
    adapter.layers[2].mlp.down_proj.weight[0, 0] += 1e-3


def template(adapter: Adapter) -> Any:
    adapter.processor.chat_template += " "


def image_size(adapter: Adapter) -> Any:
    adapter.processor.image_processor.crop_size = {"height": 16, "width": 16}


def token(adapter: Adapter) -> Any:
    adapter.processor.tokenizer.add_tokens(["another"])


def precision(adapter: Adapter) -> Any:
    adapter.model.bfloat16()


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        (one_weight, {"weights"}),
        (template, {"processor"}),
        (image_size, {"processor"}),
        (token, {"processor"}),
        (precision, {"weights", "dtype"}),
    ],
)
def test_differs_where_the_model_s_numbers_would(change, keys, adapter):
    before = fingerprint(adapter)
    change(adapter)
    after = fingerprint(adapter)
    assert {key for key in before if before[key] != after[key]} == keys
