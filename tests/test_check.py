"""`check` says yes to every family, and no, with the reason, to whatever would give wrong numbers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.helpers import batch_of, opened, varied
from tests.toys import FAMILIES
from vlmsift import proofs
from vlmsift.check import Report, check_adapter, weights_digest
from vlmsift.models import Adapter, open_model
from vlmsift.passes import intervene
from vlmsift.passes.capture import Capture
from vlmsift.passes.loss import Head
from vlmsift.passes.masking import Masking
from vlmsift.passes.measure import measure
from vlmsift.proofs import Proof, eager_attentions, hooked_loss
from vlmsift.specs import ModelSpec

PROOFS = ["conversation", "loss", "attention", "masked re-run", "batch independence", "model untouched"]


@pytest.fixture
def llava(toy_path: Callable[[str], Path]) -> Adapter:
    """One to be broken."""
    return open_model(ModelSpec(toy_path("llava"), device="cpu", dtype="float32"))


def failed(report: Report) -> dict[str, str]:
    assert not report.supported
    return {proof.name: proof.detail for proof in report.proofs if not proof.passed}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_supported(family, toy_path):
    adapter = opened(toy_path(family))
    before = weights_digest(adapter)
    report = check_adapter(adapter)
    assert report.supported, report.proofs
    assert [proof.name for proof in report.proofs] == PROOFS
    assert all(proof.difference is None or proof.difference <= 1e-5 for proof in report.proofs)
    assert weights_digest(adapter) == before
    facts = report.facts
    assert facts["family"].startswith(family)
    assert report.proofs[2].detail.startswith(f"{adapter.depth} of {adapter.depth} layers")
    assert facts["text layers"].startswith(f"{adapter.depth} of ")
    assert f"(id {adapter.image_token_id})" in facts["image token"]
    assert facts["context"] == "2048 tokens"
    assert "A grey cat on a mat." in facts["supervised text"]


@pytest.fixture(scope="session")
def capped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PaliGemma 2: soft caps on attention scores and logits, which no fused kernel offers, and sliding windows."""
    from transformers import AutoModelForImageTextToText, Gemma2Config, PaliGemmaConfig

    from tests.toys.gemma import paligemma
    from tests.toys.weights import scatter

    toy = paligemma()
    shared = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    shared += ("num_key_value_heads", "head_dim", "max_position_embeddings", "pad_token_id", "tie_word_embeddings")
    text = Gemma2Config(
        **{name: getattr(toy.config.text_config, name) for name in shared},
        query_pre_attn_scalar=16,
        sliding_window=16,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
    )
    config = PaliGemmaConfig(
        vision_config=toy.config.vision_config,
        text_config=text,
        image_token_index=toy.config.image_token_id,
        projection_dim=text.hidden_size,
        hidden_size=text.hidden_size,
        vocab_size=text.vocab_size,
    )
    model = AutoModelForImageTextToText.from_config(config).eval()
    scatter(model, 0)
    folder = tmp_path_factory.mktemp("capped")
    model.save_pretrained(folder)
    toy.processor.save_pretrained(folder)
    return folder


def test_soft_caps_are_supported(capped):
    report = check_adapter(opened(capped))
    assert report.supported, report.proofs


def broken_config(folder: Path, to: Path, **changes: Any) -> Adapter:
    shutil.copytree(folder, to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(config | changes))
    return open_model(ModelSpec(to, device="cpu", dtype="float32"))


@pytest.mark.parametrize(
    ("family", "key"),
    [("llava", "image_token_index"), ("qwen2_vl", "image_token_id"), ("paligemma", "image_token_index")],
)
def test_a_wrong_image_token_is_refused(family, key, toy_path, tmp_path):
    report = check_adapter(broken_config(toy_path(family), tmp_path / "x", **{key: 70}))
    assert set(failed(report)) == {"conversation"}
    assert "images not located" in failed(report)["conversation"]


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for m in messages if m['role'] == 'user' %}<image>{% endfor %}", "drops an assistant turn"),
        ("{{ messages[0]['content'] | length }}", "drops an assistant turn"),
        ("{% for m in messages %}{{ m.text.x }}{% endfor %}", "refused by the chat template"),
        (
            "{% for m in messages %}{% for p in m['content'] %}{{ p.get('text', '') }}{% endfor %}{% endfor %}",
            "refused by the processor",
        ),
    ],
    ids=["no answers", "no text", "raises", "no images"],
)
def test_a_template_that_hides_what_is_trained_on_is_refused(template, reason, llava):
    llava.processor.chat_template = template
    assert reason in failed(check_adapter(llava))["conversation"]


def test_slightly_wrong_probabilities_are_noticed(llava, monkeypatch):
    right = intervene.attention_chunks

    def wrong(*positional: Any, **named: Any) -> Iterator[Any]:
        for seen in right(*positional, **named):
            last = seen.probabilities.clone()
            last[:, :, -1] *= 1.001  # a single row
            yield replace(seen, probabilities=last)

    monkeypatch.setattr(intervene, "attention_chunks", wrong)
    assert set(failed(check_adapter(llava))) == {"attention"}


def test_a_slightly_wrong_re_run_is_noticed(llava, monkeypatch):
    right = Capture.resume
    monkeypatch.setattr(Capture, "resume", lambda self, *positional: right(self, *positional) * 1.001)
    assert set(failed(check_adapter(llava))) == {"masked re-run"}


def test_a_loss_that_is_not_the_model_s_is_noticed(llava, monkeypatch):
    right = Adapter.head
    monkeypatch.setattr(Adapter, "head", lambda self, hidden: right(self, hidden) * 1.001)
    assert set(failed(check_adapter(llava))) == {"loss"}


def test_padding_that_changes_a_sample_is_noticed(llava, monkeypatch):
    monkeypatch.setattr(Adapter, "inputs", lambda self, batch: {k: v for k, v in batch.inputs.items() if k[0] != "a"})
    assert set(failed(check_adapter(llava))) == {"batch independence"}


def test_a_layer_whose_attention_is_not_seen_is_named(llava):
    layer: Any = llava.layers[1].self_attn
    layer.forward = lambda hidden_states, **named: (layer.o_proj(layer.q_proj(hidden_states)), None)
    reasons = failed(check_adapter(llava))
    assert "[1]" in reasons["attention"] or "AttentionInterface" in reasons["attention"]
    assert "layers [1] of 3" in reasons["masked re-run"]


def test_a_changed_model_is_noticed(llava, monkeypatch):
    def careless(capture: Capture, batch: Any, needs: Any) -> dict[Any, Tensor]:
        with torch.no_grad():
            capture.adapter.layers[0].mlp.up_proj.weight[0, 0] += 1e-6
        return measure(capture, batch, needs)

    monkeypatch.setattr(proofs, "measure", careless)
    assert failed(check_adapter(llava))["model untouched"] == "the model was changed"


def test_a_foreign_fault_is_an_answer_not_a_crash(llava, monkeypatch):
    def fail(*positional: Any, **named: Any) -> None:
        raise RuntimeError("the kernel is not built")

    monkeypatch.setattr(type(llava.model), "forward", fail)
    assert failed(check_adapter(llava)) == {"loss": "RuntimeError: the kernel is not built"}


def test_no_proof_is_no_support():
    assert not Report("m").supported
    assert not Report("m", proofs=[Proof("a", True, ""), Proof("b", False, "")]).supported
    assert Report("m", proofs=[Proof("a", True, "")]).supported


def test_low_precision_is_judged_by_its_own_rounding(toy_path):
    assert check_adapter(open_model(ModelSpec(toy_path("llava"), device="cpu", dtype="bfloat16"))).supported


def test_the_slow_twins_stand_on_their_own(toy_path):
    """They judge the fast ways, so they are judged by what is known without either."""
    adapter = opened(toy_path("llava"))
    batch = batch_of(adapter, varied("llava")[:2])
    maps = eager_attentions(adapter, batch)
    assert len(maps) == adapter.depth
    for layer in maps:
        torch.testing.assert_close(layer.sum(-1), torch.ones(layer.shape[:-1]))
        assert not layer.triu(1).any()
    assert adapter.text.config._attn_implementation == "sdpa"
    with Capture(adapter) as capture:
        loss = measure(capture, batch, [])[Head()]
    nothing = torch.zeros_like(batch.valid)
    torch.testing.assert_close(hooked_loss(adapter, batch, 1, Masking(), nothing), loss, atol=1e-5, rtol=0)
    assert (hooked_loss(adapter, batch, 1, Masking(), batch.image_mask) - loss).abs().min() > 1e-4


@torch.no_grad()
def test_the_digest_sees_one_bit_and_every_buffer(llava):
    digests = {weights_digest(llava)}
    weight = llava.norm.weight
    weight[3] = torch.nextafter(weight[3], torch.tensor(9.0))
    digests.add(weights_digest(llava))
    llava.model.register_buffer("extra", torch.zeros(1))
    digests.add(weights_digest(llava))
    llava.model.register_buffer("number", torch.tensor(1.0))  # without an axis
    digests.add(weights_digest(llava))
    assert len(digests) == 4
