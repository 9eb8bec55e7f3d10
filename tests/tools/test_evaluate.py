"""Supervised positions are the answer and its end, and one wrong token makes an answer wrong."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from tools.embedded_model.build import build
from tools.embedded_model.evaluate import IGNORE, encode, evaluate
from torch.nn import functional

from vlmsift.demo.questions import draw_samples


@pytest.fixture(scope="module")
def untrained():
    return build(0)


def test_labels_are_the_answer_and_its_end(untrained):
    processor = untrained[1]
    samples = draw_samples("test", 30, seed=4)
    _, labels = encode(processor, samples)
    for sample, row in zip(samples, labels, strict=True):
        assert processor.tokenizer.decode(row[row != IGNORE]) == sample.answer + "<|end|>"


def test_images_may_be_files(untrained, tmp_path):
    sample = draw_samples("test", 1, seed=4)[0]
    (tmp_path / "a.png").write_bytes(sample.images[0])
    named = dataclasses.replace(sample, images=("a.png",))
    from_bytes = encode(untrained[1], [sample])[0]["pixel_values"]
    assert torch.equal(encode(untrained[1], [named], tmp_path)[0]["pixel_values"], from_bytes)


def test_one_wrong_token_makes_an_answer_wrong(untrained):
    samples = [sample for sample in draw_samples("test", 60, seed=4) if sample.source in ("describe", "row_sum")]
    spoil = {"describe": 3, "row_sum": 0}
    told = _Told(untrained[1], samples, lambda sample: spoil[sample.source] if int(sample.id) % 2 else None)
    accuracy = evaluate(told, untrained[1], samples, batch_size=1)
    for task in spoil:
        ids = [int(sample.id) for sample in samples if sample.source == task]
        assert accuracy[task] == sum(number % 2 == 0 for number in ids) / len(ids)


def test_evaluation_leaves_the_mode_alone(untrained):
    model, processor = untrained
    model.train()
    evaluate(model, processor, draw_samples("test", 3))
    assert model.training
    model.eval()


class _Told:
    """A model that is told the answers, and gets one token wrong where `wrong` names its place in the answer."""

    training = False
    device = "cpu"

    def __init__(self, processor, samples, wrong):
        self.queue = [(sample, encode(processor, [sample])[1]) for sample in sorted(samples, key=_length)]
        self.size, self.wrong = len(processor.tokenizer), wrong

    def __call__(self, **_):
        sample, labels = self.queue.pop(0)
        says = labels.clone().clamp(min=0)
        place = self.wrong(sample)
        if place is not None:
            says[0, (labels[0] != IGNORE).nonzero()[place]] += 1
        return SimpleNamespace(logits=functional.one_hot(says, self.size).float().roll(-1, 1))

    def eval(self):
        return self

    def train(self, _):
        return self


def _length(sample):
    return len(sample.answer)
