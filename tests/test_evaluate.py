"""Judging answers: equal to generating them, to the model's own loss, and to nothing else in the batch."""

from __future__ import annotations

import json
import math

import pytest
import torch
from transformers.utils import logging

from tests.sample_pools import llava_rows, write_pool
from tests.train.helpers import encoded
from vlmsift.demo import MODEL_PATH
from vlmsift.demo.pool import make_pool
from vlmsift.errors import UnsupportedModel, UsageError, VlmsiftError
from vlmsift.evaluate import evaluate
from vlmsift.models import open_model
from vlmsift.pools import open_pool
from vlmsift.specs import EngineSpec, ModelSpec

logging.disable_progress_bar()


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Forty samples of the demo's pool, half of them spoiled, so that some answers are wrong."""
    return make_pool(tmp_path_factory.mktemp("digits") / "pool", 40, seed=5)


@pytest.fixture(scope="module")
def digits_data(digits):
    return encoded(digits, MODEL_PATH)


def test_exact_is_what_greedy_decoding_gives(digits_data):
    adapter = open_model(ModelSpec(MODEL_PATH, device="cpu"))
    found = evaluate(adapter, digits_data)
    right: dict[str, list[bool]] = {}
    for place in range(len(digits_data)):
        sample = digits_data[place]
        start = int((sample.labels != -100).nonzero()[0])
        inputs = {"input_ids": sample.input_ids[None, :start], **sample.images}
        answer = sample.input_ids[start:]
        with torch.no_grad():
            made = adapter.model.generate(
                **inputs,
                attention_mask=torch.ones(1, start, dtype=torch.long),
                do_sample=False,
                max_new_tokens=len(answer),
            )[0, start:]
        right.setdefault(digits_data.sources[place], []).append(torch.equal(made, answer))
    assert {task: result.exact for task, result in found.items()} == {
        task: sum(values) / len(values) for task, values in right.items()
    }
    assert {task: result.samples for task, result in found.items()} == {t: len(v) for t, v in right.items()}
    assert 0 < sum(result.exact for result in found.values()) < len(found), "some right, some wrong"
    assert list(found) == sorted(found)


def test_the_loss_is_the_models_own(digits_data):
    adapter = open_model(ModelSpec(MODEL_PATH, device="cpu"))
    found = evaluate(adapter, digits_data)
    losses: dict[str, list[float]] = {}
    for place in range(len(digits_data)):
        batch = digits_data.encoder.collate([digits_data[place]])
        with torch.no_grad():
            loss = float(adapter.model(**batch.inputs, labels=batch.labels).loss)
        losses.setdefault(digits_data.sources[place], []).append(loss)
    for task, values in losses.items():
        assert found[task].loss == pytest.approx(sum(values) / len(values), abs=1e-4)


def test_batches_do_not_matter(digits_data):
    alone, together = (
        evaluate(MODEL_PATH, digits_data, engine=EngineSpec(tokens_per_batch=budget)) for budget in (1, 4096)
    )
    assert {task: result.exact for task, result in alone.items()} == {t: r.exact for t, r in together.items()}
    for task, result in alone.items():
        assert together[task].loss == pytest.approx(result.loss, abs=1e-5)


def test_a_file_or_a_pool_will_do(digits, digits_data):
    expected = evaluate(MODEL_PATH, digits_data)
    assert evaluate(MODEL_PATH, digits, engine=EngineSpec(workers=0)) == expected
    assert evaluate(MODEL_PATH, open_pool(digits), engine=EngineSpec(workers=0)) == expected


def test_errors_are_counted_with_their_task(tmp_path, toy_path):
    rows = llava_rows(4)
    for row, task in zip(rows, ("a", "a", "b", None), strict=True):
        row["task"] = task
    path = write_pool(tmp_path, rows)
    (tmp_path / "images/0.png").write_bytes(b"no picture")
    (tmp_path / "images/2.png").unlink()
    found = evaluate(toy_path("llava"), path, engine=EngineSpec(workers=0))
    assert {task: (result.samples, result.errors) for task, result in found.items()} == {
        "a": (1, 1),
        "all": (1, 0),
        "b": (0, 1),
    }
    assert [reason.split(":")[0] for reason in found["b"].reasons] == ["missing image"]
    assert math.isnan(found["b"].exact)
    assert math.isnan(found["b"].loss)


def test_a_sample_that_the_model_cannot_take_is_an_error_alone(digits_data, monkeypatch):
    adapter = open_model(ModelSpec(MODEL_PATH, device="cpu"))
    expected = evaluate(adapter, digits_data)
    backbone = type(adapter).backbone

    def failing(self, batch, inputs):
        if digits_data.ids[3] in batch.ids:
            raise RuntimeError("out of memory")
        return backbone(self, batch, inputs)

    monkeypatch.setattr(type(adapter), "backbone", failing)
    found = evaluate(adapter, digits_data)
    task = digits_data.sources[3]
    assert {name: result.errors for name, result in found.items()} == {name: int(name == task) for name in found}
    assert found[task].samples == expected[task].samples - 1
    (reason,) = found[task].reasons
    assert reason.startswith("out of memory: this sample alone, ")
    monkeypatch.setattr(type(adapter), "backbone", backbone)
    assert evaluate(adapter, digits_data) == expected


@pytest.mark.parametrize("error", [RuntimeError("no kernel image"), torch.OutOfMemoryError("CUDA out of memory")])
def test_a_fault_that_hits_every_sample_is_raised_with_its_reason(error, digits_data, monkeypatch):
    tried = []

    def failing(self, batch, inputs):
        tried.extend(batch.ids)
        raise error

    adapter = open_model(ModelSpec(MODEL_PATH, device="cpu"))
    monkeypatch.setattr(type(adapter), "backbone", failing)
    with pytest.raises(UnsupportedModel, match=r"none of the first \d+ samples can be judged.*(no kernel|of memory)"):
        evaluate(adapter, digits_data, engine=EngineSpec(tokens_per_batch=100))
    assert set(tried) < set(digits_data.ids), "it went on although nothing had worked"
    with pytest.raises(UnsupportedModel, match="none of the first 1 samples"):
        evaluate(adapter, digits_data.subset(digits_data.ids[:1]))


def test_a_lost_device_is_raised_at_once(digits_data, monkeypatch):
    adapter = open_model(ModelSpec(MODEL_PATH, device="cpu"))
    backbone, forwards = type(adapter).backbone, []

    def failing(self, batch, inputs):
        forwards.append(batch)
        if len(forwards) > 1:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        return backbone(self, batch, inputs)

    monkeypatch.setattr(type(adapter), "backbone", failing)
    with pytest.raises(VlmsiftError, match=r"the device has failed .*illegal memory access"):
        evaluate(adapter, digits_data, engine=EngineSpec(tokens_per_batch=100))
    assert len(forwards) == 2


def test_the_model_stays_as_it_was(digits_data):
    adapter = open_model(ModelSpec(MODEL_PATH, device="cpu"))
    adapter.model.train()
    evaluate(adapter, digits_data.subset(digits_data.ids[:2]))
    assert adapter.model.training


def test_a_conversation_is_right_only_as_a_whole(tmp_path):
    """The second answer is learnt by heart by nobody: the sample is wrong although its first answer is right."""
    pool = make_pool(tmp_path / "pool", 20, seed=1, spoiled=0.0)
    rows = json.loads(pool.read_text())
    for row in rows:
        row["conversations"] += [{"from": "human", "value": "and?"}, {"from": "gpt", "value": "purple rain"}]
    (tmp_path / "pool/more.json").write_text(json.dumps(rows))
    before, after = evaluate(MODEL_PATH, pool), evaluate(MODEL_PATH, tmp_path / "pool/more.json")
    assert max(result.exact for result in before.values()) == 1.0
    assert {result.exact for result in after.values()} == {0.0}


def test_what_cannot_be_meant(digits_data, toy_path):
    with pytest.raises(UsageError, match="tokens_per_batch=0"):
        evaluate(MODEL_PATH, digits_data, engine=EngineSpec(tokens_per_batch=0))
    with pytest.raises(UsageError, match="another model"):
        evaluate(toy_path("llava"), digits_data)
