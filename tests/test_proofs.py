"""What a model proves on one sample: as much as the needs use, with the model left as it was."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.helpers import ask, opened, picture, sample
from vlmsift import proofs
from vlmsift.check import Report, weights_digest
from vlmsift.errors import UnsupportedModel
from vlmsift.models import Adapter, Encoded
from vlmsift.passes.attention_received import ImageAttention
from vlmsift.passes.interventions import BlindLoss, MaskedLoss
from vlmsift.passes.masking import Masking
from vlmsift.proofs import Proof, prove_sample

SEEN = ask("seen", "what is it?", "a thing,  and Ärger", "60x40#1")
TEXT = sample("text", "hello", "good day")
TALK = sample("talk", "<image>what?", "a dog", "so?", "a dog", images=("50x40#2",))


@pytest.fixture
def llava(toy_path: Callable[[str], Path]) -> Adapter:
    return opened(toy_path("llava"))


def prove(adapter: Adapter, one: Any, needs: Any = None, **changes: Any) -> dict[str, Any]:
    """The sample, its encoding changed where told to, proves the model."""
    encoder = adapter.encoder(picture)
    answers = [turn.text for turn in one.turns if turn.role == "assistant"]
    return prove_sample(adapter, encoder, replace(encoder.encode(one), **changes), answers, needs)


@pytest.mark.parametrize(
    ("needs", "names"),
    [
        (None, ["conversation", "loss"]),
        ([], ["conversation"]),
        ([ImageAttention()], ["conversation", "loss", "attention"]),
        ([BlindLoss()], ["conversation", "loss", "attention", "masked re-run"]),
        ([MaskedLoss(Masking())], ["conversation", "loss", "attention", "masked re-run"]),
    ],
    ids=["training", "no forward", "attention", "other attention", "masked"],
)
def test_what_is_used_is_proved(needs: Any, names: list[str], llava: Adapter) -> None:
    for one in (SEEN, TEXT, TALK):
        found = prove(llava, one, needs)
        assert [proof["name"] for proof in found["proofs"]] == names
        assert all(proof["passed"] for proof in found["proofs"])
        assert all(0 <= proof["difference"] <= found["tolerance"] for proof in found["proofs"][1:])
        assert (found["sample"], found["precision"]) == (one.id, "float32")


@pytest.mark.parametrize("family", ["qwen2_vl", "gemma3", "paligemma"])
def test_the_model_and_all_randomness_stay_as_they_were(family: str, toy_path: Callable[[str], Path]) -> None:
    adapter = opened(toy_path(family))

    def state() -> list[Any]:
        deltas = [module.rope_deltas for module in adapter.model.modules() if hasattr(module, "rope_deltas")]
        drawn = torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()
        attention = adapter.text.config._attn_implementation
        return [weights_digest(adapter), deltas, drawn, attention, adapter.model.training]

    before = state()
    assert len(prove(adapter, SEEN, [MaskedLoss(Masking())])["proofs"]) == 4
    assert state() == before


def shifted(encoded: Encoded) -> torch.Tensor:
    """Labels two tokens too early."""
    return torch.where(encoded.labels.roll(-2) == -100, -100, encoded.input_ids)


def test_supervised_tokens_that_are_not_the_answer_are_refused(llava: Adapter) -> None:
    encoded = llava.encoder(picture).encode(SEEN)
    with pytest.raises(UnsupportedModel, match=r"conversation: the supervised tokens read .* 'a thing,  and Ärger' is"):
        prove(llava, SEEN, labels=shifted(encoded))
    twice = llava.encoder(picture).encode(TALK)
    first_only = twice.labels.clone()
    first_only[first_only.nonzero()[-8:]] = -100
    with pytest.raises(UnsupportedModel, match="the answer 'a dog' is not in them"):
        prove(llava, TALK, labels=first_only)


def test_what_does_not_fit_in_memory_is_not_known(llava: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(proofs, "eager_attentions", full)
    found = prove(llava, SEEN, [ImageAttention()])["proofs"]
    assert [proof["passed"] for proof in found] == [True, True, None]
    assert not Report("m", proofs=[Proof(**proof) for proof in found]).supported
