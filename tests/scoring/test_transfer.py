"""What goes on beside the model changes no number: batches made ahead, windows gathered ahead, numbers read late.

No device is needed: a stand-in for the way to it keeps account of what happens when.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vlmsift
from tests.sample_pools import SIGNALS, llava_rows, write_pool
from vlmsift.models import encode, prepare_for
from vlmsift.pools import open_image, open_pool
from vlmsift.scoring import batches
from vlmsift.scoring.batches import Columns, Scorer
from vlmsift.scoring.feed import Feed
from vlmsift.scoring.transfer import Transfer
from vlmsift.signals import build_signals
from vlmsift.types import Batch

COUNT = 24


class Beside(Transfer):
    """Stands for the way to a device."""

    beside = True
    told: list[tuple[str, Any]]
    reads = 0

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream, self.told = device, None, []

    def send(self, host: Batch) -> Any:
        self.told.append(("sent", threading.get_ident()))
        return super().send(host)

    def fetch(self, measured: Any) -> Callable[[], Any]:
        read = super().fetch(measured)
        number = sum(what == "begun" for what, _ in self.told)
        self.told.append(("begun", number))

        def late() -> Any:
            self.told.append(("read", number))
            return read()

        return late


@pytest.fixture(scope="module")
def score(toy_path: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """`score(budget, ...)` -> the columns of two parts, and the scorer."""
    model = vlmsift.open_model(toy_path("llava"))
    pool = open_pool(write_pool(tmp_path_factory.mktemp("pool"), llava_rows(COUNT, text_only=(7,))))
    encoder = model.encoder(partial(open_image, root=pool.image_root))

    def run(budget: int, workers: int = 0, **how: Any) -> tuple[Columns, Scorer]:
        feed = Feed(pool, encoder, range(COUNT), workers, prepare_for(model))
        scorer = Scorer(model, encoder, build_signals(SIGNALS), budget, **how)
        parts = list(scorer.parts(iter(feed), [15, 9]))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, scorer

    return run


def assert_equal(ours: Columns, theirs: Columns) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches go the stand-in's way; no memory is pinned for it."""
    join = encode.concatenate
    monkeypatch.setattr(encode, "concatenate", lambda tensors, size, pinned: join(tensors, size, False))
    monkeypatch.setattr(batches, "Transfer", Beside)


def test_numbers_are_read_one_batch_late_and_batches_made_in_a_thread(
    score: Callable[..., Any], request: pytest.FixtureRequest
) -> None:
    usual, _ = score(150)
    request.getfixturevalue("beside")
    ours, scorer = score(150)
    assert_equal(ours, usual)
    told = scorer.transfer.told
    proofs = 2  # the first samples with an image and without are measured alone, and here
    here = threading.get_ident()
    assert [who == here for what, who in told if what == "sent"].count(True) == proofs
    order = [(what, number) for what, number in told if what != "sent"]
    place = {one: order.index(one) for one in order}
    numbers = [number for what, number in order if what == "begun"][proofs:]
    late = [place["read", number] > place["begun", number + 1] for number in numbers if number + 1 in numbers]
    assert len(late) > 6
    assert late.count(False) == 1, "the last of the first part, which is complete before the next begins"


@pytest.mark.parametrize("workers", [0, 2])
def test_windows_gathered_ahead_are_the_same(workers: int, score: Callable[..., Any]) -> None:
    usual, alone = score(150)
    ours, ahead = score(150, workers, gather=True)
    assert_equal(ours, usual)
    assert min(alone.waited, ahead.waited) > 0


def test_a_batch_that_cannot_be_sent_is_told_in_its_turn(
    score: Callable[..., Any], beside: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, _ = score(150)
    send = Beside.send

    def short(self: Beside, host: Batch) -> Any:
        if len(host) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return send(self, host)

    monkeypatch.setattr(Beside, "send", short)
    ours, scorer = score(150)
    assert scorer.halved > 3
    assert ours["status"].tolist() == ["ok"] * COUNT
    np.testing.assert_allclose(ours["answer_loss"], usual["answer_loss"], rtol=0, atol=1e-5)


def test_numbers_that_cannot_be_read_make_one_sample_an_error(
    score: Callable[..., Any], beside: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals = build_signals(SIGNALS)
    plain = type(signals["answer_loss"]).__call__

    def failing(self: Any, batch: Batch, measured: Any) -> Any:
        if "r4" in batch.ids:
            raise ArithmeticError("in the signal")
        return plain(self, batch, measured)

    monkeypatch.setattr(type(signals["answer_loss"]), "__call__", failing)
    rows, _ = score(150)
    assert [name for name, status in zip(rows["id"], rows["status"], strict=True) if status == "error"] == ["r4"]
    assert rows["reason"][4] == "failed in the model: ArithmeticError: in the signal"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_batch_arrives_on_a_cuda_device_as_it_was() -> None:
    device = torch.device("cuda")
    transfer = Transfer(device)
    tokens = torch.arange(12).view(3, 4)
    mask = tokens > 3
    host = Batch(
        ("a", "b", "c"), {"input_ids": tokens, "pixels": torch.randn(9, 5)}, tokens, mask, tokens, mask, mask, mask
    )
    there = transfer.send(host).arrived()
    assert {value.device.type for value in there.inputs.values()} == {"cuda"}
    read = transfer.fetch({"sum": there.inputs["pixels"] * 2, "mask": there.valid})
    assert torch.equal(read()["sum"], host.inputs["pixels"] * 2)
    assert torch.equal(read()["mask"], mask)
