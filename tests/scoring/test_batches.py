"""What the scorer does when a batch fails: it halves, isolates, goes on, or says that the model is at fault."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vlmsift
from tests.sample_pools import SIGNALS, llava_rows, write_pool
from vlmsift.errors import UnsupportedModel, VlmsiftError
from vlmsift.passes.capture import Capture
from vlmsift.pools import open_image, open_pool
from vlmsift.runs.columns import FIXED
from vlmsift.scoring import batches
from vlmsift.scoring.batches import GIVE_UP, Scorer
from vlmsift.scoring.feed import Feed, Item
from vlmsift.signals import build_signals
from vlmsift.types import Batch

COUNT = 24
Table = dict[str, list[Any]]
MEASURE = batches.measure


@pytest.fixture(scope="module")
def model(toy_path: Callable[[str], Path]) -> vlmsift.Adapter:
    return vlmsift.open_model(toy_path("llava"))


@pytest.fixture(scope="module")
def items(model: vlmsift.Adapter, tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    pool = open_pool(write_pool(tmp_path_factory.mktemp("pool"), llava_rows(COUNT, text_only=(7,))))
    return list(Feed(pool, model.encoder(partial(open_image, root=pool.image_root)), range(COUNT), workers=0))


@pytest.fixture(scope="module")
def scorer(model: vlmsift.Adapter) -> Callable[..., Scorer]:
    """`scorer(budget, ...)`."""
    encoder = model.encoder(lambda ref: None)
    return lambda budget=4096, **more: Scorer(model, encoder, build_signals(SIGNALS), budget, **more)


@pytest.fixture(scope="module")
def usual(items: list[Item], scorer: Callable[..., Scorer]) -> Table:
    return whole(scorer(), items)


def tables(scorer: Scorer, items: list[Item], sizes: list[int]) -> list[Table]:
    """The parts, as lists."""
    return [{name: column.tolist() for name, column in part.items()} for part in scorer.parts(iter(items), sizes)]


def whole(scorer: Scorer, items: list[Item], count: int = COUNT) -> Table:
    """All in one part."""
    return tables(scorer, items, [count])[0]


def assert_same(ours: Table, theirs: Table) -> None:
    assert ours.keys() == theirs.keys()
    for name in theirs:
        if name in ("delta_attnmask", "answer_loss", "image_attention", "hidden_mean", "random"):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-5, err_msg=name)
        else:
            assert ours[name] == theirs[name], name


class Failing:
    """Stands for `measure`: fails where `at` holds, and remembers the (samples, tokens) of the batches that passed."""

    def __init__(self, at: Callable[[Batch], bool], error: Exception) -> None:
        self.at, self.error = at, error
        self.passed: list[tuple[int, int]] = []
        self.failed = 0

    def __call__(self, capture: Capture, batch: Batch, needs: Any, **how: Any) -> Any:
        if self.at(batch):
            self.failed += 1
            raise self.error
        self.passed.append((len(batch), batch.valid.numel()))
        return MEASURE(capture, batch, needs, **how)


def fail(monkeypatch: pytest.MonkeyPatch, at: Callable[[Batch], bool], error: Exception) -> Failing:
    failing = Failing(at, error)
    monkeypatch.setattr(batches, "measure", failing)
    return failing


def test_parts_have_the_sizes_asked_for(items: list[Item], usual: Table, scorer: Callable[..., Scorer]) -> None:
    parts = tables(scorer(), items, [5, 1, 10, 8])
    assert [part["index"] for part in parts] == [list(range(5)), [5], list(range(6, 16)), list(range(16, 24))]
    assert_same({name: [value for part in parts for value in part[name]] for name in usual}, usual)
    assert usual["status"] == ["ok"] * COUNT
    assert math.isnan(usual["delta_attnmask"][7])


def test_progress_adds_up(items: list[Item], scorer: Callable[..., Scorer]) -> None:
    told: list[tuple[int, int]] = []
    bad = [Item(item.index, item.facts, None, "too long: x") if item.index < 3 else item for item in items]
    list(scorer(300, tick=lambda rows, errors: told.append((rows, errors))).parts(iter(bad), [10, 14]))
    assert tuple(map(sum, zip(*told, strict=True))) == (COUNT, 3)
    assert len(told) > 6


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate 9 bytes"), MemoryError()]
)
def test_short_of_memory_the_batch_is_halved(
    error: Exception,
    items: list[Item],
    usual: Table,
    scorer: Callable[..., Scorer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fits = 400
    failing = fail(monkeypatch, lambda batch: batch.valid.numel() > fits, error)
    small = scorer()
    assert_same(whole(small, items), usual)
    assert small.halved == failing.failed > 1
    assert max(tokens for _, tokens in failing.passed) <= fits
    before, budget = failing.failed, small.budget
    assert 0 < budget <= fits
    list(small.parts(iter(items), [COUNT]))
    assert (failing.failed, small.budget) == (before, budget), "later batches fit at once"


def test_the_budget_never_grows(
    items: list[Item], scorer: Callable[..., Scorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches packed before the first failure are as large as the old budget: halving one must not raise it again."""
    budgets: list[int] = []
    small = scorer(800)
    fail(monkeypatch, lambda batch: budgets.append(small.budget) or batch.valid.numel() > 150, MemoryError())
    list(small.parts(iter(items), [COUNT]))
    assert len(set(budgets)) > 2
    assert budgets == sorted(budgets, reverse=True)


def test_a_sample_that_never_fits_is_an_error_row(
    items: list[Item], usual: Table, scorer: Callable[..., Scorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, lambda batch: "r4" in batch.ids, torch.OutOfMemoryError("out of memory"))
    rows = whole(scorer(), items)
    length = len(items[4].encoded)
    assert rows["reason"][4].startswith(f"out of memory: this sample alone, {length} tokens, does not fit")
    assert [index for index, status in enumerate(rows["status"]) if status == "error"] == [4]
    assert math.isnan(rows["answer_loss"][4])
    without = [{name: values[:4] + values[5:] for name, values in table.items()} for table in (rows, usual)]
    assert_same(*without)


def test_faulty_samples_are_isolated_and_the_budget_stays(
    items: list[Item], scorer: Callable[..., Scorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty = {f"r{index}" for index in range(2, 22, 2)}
    fail(monkeypatch, lambda batch: not faulty.isdisjoint(batch.ids), IndexError("index out of range"))
    usual = scorer()
    rows = whole(usual, items)
    assert {key for key, status in zip(rows["id"], rows["status"], strict=True) if status == "error"} == faulty
    assert set(filter(None, rows["reason"])) == {"failed in the model: IndexError: index out of range"}
    assert (usual.halved, usual.budget) == (0, 4096)


@pytest.mark.parametrize("sizes", [[COUNT], [4] * 6])
def test_a_model_that_fails_on_everything_is_at_fault(
    sizes: list[int], items: list[Item], scorer: Callable[..., Scorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, lambda batch: True, ValueError("no such operator"))
    done: list[Any] = []
    with pytest.raises(
        UnsupportedModel, match=r"none of the first \d+ samples .* ValueError: no such op.*vlmsift check"
    ):
        done.extend(scorer().parts(iter(items), sizes))
    assert sum(len(part["id"]) for part in done) < GIVE_UP
    few = whole(scorer(), items, GIVE_UP - 1)
    assert few["status"] == ["error"] * (GIVE_UP - 1)
    proven = whole(scorer(measured={True, False}), items)
    assert proven["status"] == ["error"] * COUNT


def test_a_model_whose_every_loss_is_no_number_is_at_fault(
    items: list[Item], scorer: Callable[..., Scorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflown(capture: Capture, batch: Batch, needs: Any, **how: Any) -> Any:
        return {need: value * math.nan for need, value in MEASURE(capture, batch, needs, **how).items()}

    monkeypatch.setattr(batches, "measure", overflown)
    with pytest.raises(UnsupportedModel, match=r"not a number: the answer's loss is nan \(try --dtype float32\)"):
        list(scorer().parts(iter(items), [COUNT]))


@pytest.mark.parametrize(
    ("reason", "stops"),
    [("unexpected: KeyError: 'x'", True), ("refused by the processor: no", True), ("missing image: 'a.png'", False)],
)
def test_an_encoder_that_takes_nothing_stops_the_run_but_bad_data_does_not(
    reason: str, stops: bool, items: list[Item], scorer: Callable[..., Scorer]
) -> None:
    refused = [Item(item.index, item.facts, None, reason) for item in items]
    if stops:
        with pytest.raises(UnsupportedModel, match=reason):
            list(scorer().parts(iter(refused), [COUNT]))
        refused[-1] = items[-1]
    assert whole(scorer(), refused)["reason"][0] == reason


def test_images_that_are_found_nowhere_are_the_models_fault_though_text_alone_works(
    items: list[Item], scorer: Callable[..., Scorer]
) -> None:
    reason = "images not located: 1 given, 0 found in the text"
    refused = [item if not item.facts["images"] else Item(item.index, item.facts, None, reason) for item in items]
    with pytest.raises(UnsupportedModel, match=rf"none of the first 23 samples with an image .*: {reason}.*check"):
        whole(scorer(), refused)
    assert whole(scorer(measured={True}), refused)["status"].count("ok") == 1
    refused[-1] = items[-1]
    assert whole(scorer(), refused)["status"].count("ok") == 2


def test_a_lost_device_ends_the_run_and_spoils_no_row(
    items: list[Item], scorer: Callable[..., Scorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, lambda batch: "r9" in batch.ids, torch.AcceleratorError("CUDA error: device-side assert"))
    with pytest.raises(VlmsiftError, match=r"the device has failed .*device-side assert.*Start the same command again"):
        whole(scorer(measured={True, False}), items)


def test_a_part_is_arrays(items: list[Item], model: vlmsift.Adapter) -> None:
    chosen = build_signals([*SIGNALS, "one=hidden_mean:dimensions=1"])
    part = next(Scorer(model, model.encoder(lambda ref: None), chosen, 4096).parts(iter(items), [COUNT]))
    kinds = {name: (column.dtype, column.shape) for name, column in part.items()}
    assert kinds.pop("hidden_mean") == (np.float32, (COUNT, 8))
    assert kinds.pop("one") == (np.float32, (COUNT, 1)), "a vector of one number is a vector"
    assert {kinds[name] for name in chosen if name in kinds} == {(np.dtype(np.float32), (COUNT,))}
    assert kinds["index"] == (np.int64, (COUNT,))
    assert kinds["images"] == (np.int32, (COUNT,))
    assert set(part) == {*chosen, *FIXED.names}


def test_what_the_model_cannot_do_is_no_matter_of_samples(
    items: list[Item], scorer: Callable[..., Scorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = fail(monkeypatch, lambda batch: True, UnsupportedModel("layers [3] were not seen"))
    with pytest.raises(UnsupportedModel, match="layers"):
        list(scorer().parts(iter(items), [COUNT]))
    assert failing.failed == 1


def test_an_infinite_signal_is_undefined(
    items: list[Item], usual: Table, scorer: Callable[..., Scorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def infinite(capture: Capture, batch: Batch, needs: Any, **how: Any) -> Any:
        found = MEASURE(capture, batch, needs, **how)
        return {need: value / 0 if type(need).__name__ == "MaskedLoss" else value for need, value in found.items()}

    monkeypatch.setattr(batches, "measure", infinite)
    rows = whole(scorer(), items)
    assert rows["status"] == ["ok"] * COUNT
    assert all(map(math.isnan, rows["delta_attnmask"]))
    np.testing.assert_allclose(rows["answer_loss"], usual["answer_loss"])
