"""Batches -> columns of signals. In: an open model and a feed of samples. Out: the columns of one part after another.

A batch that fails is halved until the sample at fault stands alone, which becomes an error row. A lack of memory makes
all later batches smaller too. Before anything of a model is kept, it is proved on the first samples that it takes.
While a device works on a batch, the next one is put together and copied to it, and the numbers of the one before are
read; meanwhile the next window comes in. Which samples make a batch depends on the window's samples alone.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlmsift.errors import UnsupportedModel, VlmsiftError, is_out_of_memory, split_reason
from vlmsift.models import Adapter, Encoded, Encoder
from vlmsift.passes.capture import Capture
from vlmsift.passes.loss import Head
from vlmsift.passes.measure import measure
from vlmsift.proofs import prove_sample
from vlmsift.scoring.ahead import ahead
from vlmsift.scoring.feed import Item
from vlmsift.scoring.memory import keep_memory
from vlmsift.scoring.packing import WINDOW, WINDOW_BYTES, pack
from vlmsift.scoring.transfer import Sent, Transfer
from vlmsift.types import Signal

GIVE_UP = 8  # so many failures, and a window without a success, mean that the model, not the samples, is at fault
# kinds of reasons from the encoder that count as failures too: one sample may earn them, but hardly every sample
_REFUSED = ("refused by the processor", "refused by the chat template")
NOT_THE_DATA = ("unexpected", *_REFUSED, "answer not located", "images not located")

Columns = dict[str, NDArray[Any]]  # name -> (n,) or (n, K) values of n rows
Numbers = tuple[NDArray[np.float32], Columns]  # the (B,) losses in nats, and column -> (B,) or (B, K) values
T = TypeVar("T")
Group = list[tuple[int, Encoded]]  # (place in the window, sample), of one batch


class Failure(NamedTuple):
    """Why a group could not be measured."""

    reason: str  # as of its first sample
    of_memory: bool


@dataclass
class Scorer:
    """Measures windows of samples. In its sets of kinds, True is a sample with an image, False any sample, or without.

    A kind that was `measured` before is not the model's to fail: then a failure is the sample's own.
    """

    adapter: Adapter
    encoder: Encoder
    signals: Mapping[str, Signal]  # by column
    budget: int  # tokens per batch, padding included; halved, for good, when memory runs out
    tick: Callable[[int, int], None] = lambda rows, errors: None  # whenever rows are done; errors among them
    record: Callable[[dict[str, Any]], None] = lambda proof: None  # of the model, before a row that it speaks for
    measured: set[bool] = field(default_factory=set)  # kinds: with an image, any
    gather: bool = False  # the next window while this one is measured; for items that come from worker processes
    waited: float = field(default=0.0, init=False)  # seconds, for windows
    halved: int = field(default=0, init=False)  # times that the budget was
    failed: Counter[bool] = field(default_factory=Counter, init=False)  # by kind: with an image, any
    proved: set[bool] = field(default_factory=set, init=False)  # kinds: with an image, without

    def __post_init__(self) -> None:
        self.transfer = Transfer(self.adapter.device)
        if self.adapter.device.type == "cpu":
            keep_memory()

    def parts(self, items: Iterator[Item], sizes: Iterable[int]) -> Iterator[Columns]:
        """Columns of one part after another, as many items each as `sizes` says."""
        windows = read_windows(items, sizes)
        windows = ahead(windows) if self.gather else windows
        part: Columns = {}
        started = time.perf_counter()
        for size, start, window in windows:
            self.waited += time.perf_counter() - started
            part = self._error_rows(size) if start == 0 else part
            end = start + len(window)
            self._window(window, {name: column[start:end] for name, column in part.items()})  # views
            if end == size:
                yield part
            started = time.perf_counter()

    def _error_rows(self, count: int) -> Columns:
        """Rows of which nothing is known yet: errors, their signals undefined."""
        kept = {name: column_of(signal, self.adapter) for name, signal in self.signals.items()}
        lists = {name: one["width"] > 1 or "vector" in one for name, one in kept.items()}
        shapes = {name: (count, one["width"]) if lists[name] else (count,) for name, one in kept.items()}
        return {
            "index": np.zeros(count, np.int64),
            "images": np.zeros(count, np.int32),
            **{name: np.full(count, None, object) for name in ("id", "source", "answer_key", "question", "reason")},
            "status": np.full(count, "error", object),
            **{name: np.full(shape, np.nan, np.float32) for name, shape in shapes.items()},
            "answer_tokens": np.full(count, np.nan, np.float32),
        }

    def _window(self, window: list[Item], rows: Columns) -> None:
        """Measure the items and fill their rows in."""
        for place, item in enumerate(window):
            for name, value in {"index": item.index, "reason": item.reason, **item.facts}.items():
                rows[name][place] = value
        ready = [(place, item.encoded) for place, item in enumerate(window) if item.encoded is not None]
        self.tick(len(window) - len(ready), len(window) - len(ready))
        self._prove([item for item in window if item.encoded is not None])
        packed = pack([len(encoded) for _, encoded in ready], self.budget)
        with Capture(self.adapter) as capture:
            batches = self._sent([[ready[member] for member in members] for members in packed])
            before: tuple[int, Callable[[], int]] | None = None  # samples, and what fills their rows in
            for group, sent in ahead(batches) if self.transfer.beside else batches:
                fill = self._begin(capture, group, rows, sent)
                if before is not None:
                    self.tick(before[0], before[1]())
                before = len(group), fill
            if before is not None:
                self.tick(before[0], before[1]())
        self._blame(window, rows)

    def _sent(self, groups: list[Group]) -> Iterator[tuple[Group, Sent | None]]:
        """Each group as a batch on its way to the device; None where that fails, which is told when its turn comes."""
        for group in groups:
            try:
                sent: Sent | None = self._send(group)
            except Exception:
                sent = None
            yield group, sent

    def _send(self, group: Group) -> Sent:
        samples = [encoded for _, encoded in group]
        return self.transfer.send(self.encoder.collate(samples, pinned=self.transfer.beside))

    def _prove(self, items: list[Item]) -> None:
        """Prove the model on the shortest sample with an image and the shortest without; once for each kind.

        A sample that the model cannot take proves nothing; it will be an error row.
        """
        needs = self._needs()
        for kind in (True, False):
            if kind in self.proved:
                continue
            alike = [(item.encoded, item.answers) for item in items if item.encoded and _shows(item) is kind]
            for encoded, answers in sorted(alike, key=lambda pair: len(pair[0]))[:GIVE_UP]:
                try:
                    with Capture(self.adapter) as capture:
                        loss, _ = self._batch(capture, [(0, encoded)])()
                except VlmsiftError:
                    raise
                except Exception as error:
                    stop_at_device_fault(error)
                    continue
                if np.isfinite(loss[0]):
                    self.record(prove_sample(self.adapter, self.encoder, encoded, answers, needs))
                    self.proved.add(kind)
                    break

    def _blame(self, window: list[Item], rows: Columns) -> None:
        """Raise UnsupportedModel where the model has failed on every sample so far, or on every one with an image."""
        for with_image in (True, False):
            places = [place for place, item in enumerate(window) if _shows(item) or not with_image]
            reasons = [rows["reason"][place] for place in places if _not_the_data(window[place], rows["reason"][place])]
            self.failed[with_image] += len(reasons)
            if any(rows["status"][place] == "ok" for place in places):
                self.measured.add(with_image)
            if reasons and with_image not in self.measured and self.failed[with_image] >= GIVE_UP:
                raise UnsupportedModel(
                    f"{self.adapter.name}: none of the first {self.failed[with_image]} samples"
                    f"{' with an image' * with_image} can be measured; one of them: {reasons[0]}. `vlmsift check` "
                    "says more"
                )

    def _begin(self, capture: Capture, group: Group, rows: Columns, sent: Sent | None = None) -> Callable[[], int]:
        """Give the group to the device. Out: what fills in its rows and counts the errors, when the device is done."""
        begun = self._attempt(partial(self._batch, capture, group, sent), group)
        if isinstance(begun, Failure):
            errors = self._halve(capture, group, rows, begun)
            return lambda: errors
        return partial(self._fill, capture, group, rows, begun)

    def _fill(self, capture: Capture, group: Group, rows: Columns, numbers: Callable[[], Numbers]) -> int:
        """Fill in the rows of the group and count the errors."""
        found = self._attempt(numbers, group)
        if isinstance(found, Failure):
            return self._halve(capture, group, rows, found)
        loss, values = found
        places = [place for place, _ in group]
        finite = np.isfinite(loss)  # where it is not, the row is an error, whatever else was measured
        for name, value in values.items():  # each (B,) or (B, K)
            defined = np.isfinite(value) & finite.reshape(-1, *[1] * (value.ndim - 1))  # as value
            rows[name][places] = np.where(defined, value, np.nan).reshape(rows[name][places].shape)
        rows["answer_tokens"][places] = [int((encoded.labels[1:] != -100).sum()) for _, encoded in group]
        rows["status"][places] = np.where(finite, "ok", "error")
        rows["reason"][places] = [None if math.isfinite(number) else _not_a_number(number) for number in loss]
        return int((~finite).sum())

    def _attempt(self, step: Callable[[], T], group: Group) -> T | Failure:
        """What the step gives, or why it fails; with the error go the tensors that its traceback held."""
        try:
            return step()
        except VlmsiftError:  # not the sample's fault
            raise
        except Exception as error:
            stop_at_device_fault(error)
            return Failure(failure(error, group[0][1]), is_out_of_memory(error))

    def _halve(self, capture: Capture, group: Group, rows: Columns, why: Failure) -> int:
        """Measure the halves of a group that failed, one after the other; count the errors."""
        if len(group) == 1:
            rows["reason"][group[0][0]] = why.reason
            return 1
        if why.of_memory:
            self.budget = max(1, min(self.budget, len(group) * max(len(encoded) for _, encoded in group)) // 2)
            self.halved += 1
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        middle = len(group) // 2
        return sum(self._begin(capture, half, rows)() for half in (group[:middle], group[middle:]))

    def _batch(self, capture: Capture, group: Group, sent: Sent | None = None) -> Callable[[], Numbers]:
        """Begin to measure a batch. Out: what waits for its numbers."""
        sent = sent or self._send(group)
        needs = self._needs()
        # lengths and draws need no forward, and then there is no loss to be checked
        batch = sent.host
        found = measure(capture, sent.arrived(), needs, wait=False) if needs else {Head(): torch.zeros(len(batch))}
        arrived = self.transfer.fetch(found)

        def numbers() -> Numbers:
            measured = arrived()
            values: dict[str, Tensor] = {name: signal(batch, measured) for name, signal in self.signals.items()}
            return measured[Head()].numpy(), {name: value.float().numpy() for name, value in values.items()}

        return numbers

    def _needs(self) -> list[Any]:
        return [need for signal in self.signals.values() for need in signal.needs]


def read_windows(items: Iterator[Item], sizes: Iterable[int]) -> Iterator[tuple[int, int, list[Item]]]:
    """(rows of the part, first row of the window in it, its items), part by part."""
    for size in sizes:
        start = 0
        while True:  # a part of which nothing is asked is one window of nothing
            window = read_window(items, size - start)
            yield size, start, window
            start += len(window)
            if start == size:
                break


def read_window(items: Iterator[Item], most: int) -> list[Item]:
    """The next items of a part: `most`, or fewer where the bounds of a window are reached; what they are decides it.

    So a run that is killed and started again makes the same windows, the same batches and the same numbers.
    """
    window: list[Item] = []
    held = 0  # bytes
    while len(window) < min(most, WINDOW) and held < WINDOW_BYTES:
        window.append(item := next(items))
        held += 0 if item.encoded is None else item.encoded.nbytes
    return window


def column_of(signal: Signal, adapter: Adapter) -> dict[str, Any]:
    """How many numbers a signal keeps per sample, as its run's identity tells it: a vector of one number says so."""
    numbers = signal.width(adapter.text_config.hidden_size, adapter.depth)
    return {"width": numbers, "vector": True} if signal.is_vector and numbers == 1 else {"width": numbers}


def stop_at_device_fault(error: Exception) -> None:
    """Raise where the device is lost: all later samples would fail too, and none of them by its own fault."""
    if isinstance(error, getattr(torch, "AcceleratorError", ())) and not is_out_of_memory(error):
        raise VlmsiftError(
            f"the device has failed ({str(error).strip().splitlines()[0]}). Start the same command again; should it "
            "fail at the same place, --device cpu says which sample it is"
        ) from error


def failure(error: Exception, encoded: Encoded) -> str:
    """Why one sample alone cannot be measured."""
    if is_out_of_memory(error):
        return f"out of memory: this sample alone, {len(encoded)} tokens, does not fit (try --dtype bfloat16)"
    return f"failed in the model: {type(error).__name__}: {error}"


def _shows(item: Item) -> bool:
    return bool(item.facts["images"])


def _not_the_data(item: Item, reason: str | None) -> bool:
    """Whether an error row is a failure of the model: it could not measure the sample, or not even read it."""
    return reason is not None and (item.encoded is not None or split_reason(reason)[0] in NOT_THE_DATA)


def _not_a_number(loss: float) -> str:
    return f"not a number: the answer's loss is {loss} (try --dtype float32)"
