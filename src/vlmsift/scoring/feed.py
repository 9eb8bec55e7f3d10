"""Samples in pool order, encoded by worker processes.

In: a pool, an encoder, and which rows are wanted. Out: encoded samples (or the reason why not) in order.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from vlmsift.errors import SampleError, VlmsiftError
from vlmsift.models import Adapter, Encoded, Encoder
from vlmsift.pools import Pool, open_image
from vlmsift.scoring.patience import patience
from vlmsift.types import IMAGE_MARK, Batch, Sample


@dataclass(frozen=True, slots=True)
class Item:
    """One pool row on its way to the model: encoded, or with the reason why it cannot be."""

    index: int
    facts: dict[str, Any]  # the fixed columns that are known before the model has seen the sample
    encoded: Encoded | None
    reason: str | None
    answers: tuple[str, ...] = ()  # texts of the assistant's turns, of a sample that is encoded


SHORT_ANSWER = 32  # longest answer, in characters, that can be one of a closed set of answers


LONG_QUESTION = 240  # characters of a question that are kept


def answer_key(sample: Sample) -> str | None:
    """The last answer in lower case, white space and a final full stop taken off; None where it is long."""
    key = " ".join(sample.answer.lower().split()).rstrip(".")
    return key if 0 < len(key) <= SHORT_ANSWER else None


def question_key(sample: Sample) -> str | None:
    """What was asked last before the last answer: lower case, without white space around, cut; None where nothing was.

    The beginning tells the form of a question, and its end often what is asked for; the middle of a long one goes.
    """
    last = max((place for place, turn in enumerate(sample.turns) if turn.role == "assistant"), default=0)
    asked = next((turn.text for turn in reversed(sample.turns[:last]) if turn.role == "user"), "")
    key = " ".join(asked.replace(IMAGE_MARK, " ").lower().split())
    if len(key) > LONG_QUESTION:
        key = f"{key[: LONG_QUESTION // 2]} {key[-LONG_QUESTION // 2 :]}"
    return key or None


def draw_batches(pool: Pool, model: Adapter, count: int) -> Iterator[Batch]:
    """Batches of one sample each: the first `count` that can be encoded, in an order drawn from the pool's rows."""
    encoder = model.encoder(partial(open_image, root=pool.image_root))
    drawn = 0
    for index in np.random.default_rng(0).permutation(len(pool)).tolist():
        if drawn == count:
            return
        with suppress(SampleError):
            encoded = encoder.encode(pool[index])
            drawn += 1
            yield encoder.collate([encoded])


class _Encoding:
    """A map-style data set: pool row -> Item. Everything a sample can do wrong becomes a reason."""

    def __init__(self, pool: Pool, encoder: Encoder) -> None:
        self.pool, self.encoder = pool, encoder

    def __getitem__(self, index: int) -> Item:
        facts: dict[str, Any] = {"id": self.pool.ids[index], "source": self.pool.source(index), "images": 0}
        try:
            with patience():
                sample = self.pool[index]
                facts["images"] = len(sample.images)
                facts |= {"answer_key": answer_key(sample), "question": question_key(sample)}
                answers = tuple(turn.text for turn in sample.turns if turn.role == "assistant")
                return Item(index, facts, self.encoder.encode(sample), None, answers)
        except SampleError as error:
            return Item(index, facts, None, str(error))
        except Exception as error:  # one row's surprise must not end a run of millions
            return Item(index, facts, None, f"unexpected: {type(error).__name__}: {error}")


@dataclass
class Feed:
    """Iterates over items in the order of `indices` and keeps the time that its reader had to wait."""

    pool: Pool
    encoder: Encoder
    indices: Iterable[int]  # rows of the pool; asked for as late as the processes are to have work
    workers: int = 1  # processes that read and encode; 0 = in this process
    waited: float = field(default=0.0, init=False)  # seconds

    def __iter__(self) -> Iterator[Item]:
        how: dict[str, Any] = {"num_workers": self.workers}
        if self.workers:
            # forked workers share the pool's memory map and the processor; they never touch the model or a device
            context = None if sys.platform == "win32" else "fork"
            how |= {"collate_fn": _for_the_pipe, "prefetch_factor": 16, "multiprocessing_context": context}
        rows: Any = _Encoding(self.pool, self.encoder)
        items = iter(DataLoader(rows, batch_size=None, sampler=self.indices, worker_init_fn=_quiet_worker, **how))
        while True:
            started = time.perf_counter()
            try:
                item = next(items)
            except StopIteration:
                return
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                raise VlmsiftError(
                    f"a process that reads and encodes has died, often for want of memory ({error}). Start the same "
                    f"command again, with fewer than --workers {self.workers}"
                ) from error
            item = _from_the_pipe(item)
            self.waited += time.perf_counter() - started
            yield item


def _for_the_pipe(item: Item) -> Item:
    """NumPy arrays for tensors: torch would send each tensor as a file descriptor of its own, which is slower."""
    return _converted(item, lambda value: value if value.dtype is torch.bfloat16 else value.numpy())


def _from_the_pipe(item: Item) -> Item:
    return _converted(item, lambda value: value if isinstance(value, torch.Tensor) else torch.from_numpy(value))


def _converted(item: Item, convert: Callable[[Any], Any]) -> Item:
    """The item with `convert` applied to every tensor (or array) in it."""
    if (encoded := item.encoded) is None:
        return item
    changed: dict[str, Any] = {name: convert(getattr(encoded, name)) for name in ("input_ids", "labels", "image_index")}
    for name in ("rows", "images"):
        changed[name] = {key: convert(value) for key, value in getattr(encoded, name).items()}
    return replace(item, encoded=replace(encoded, **changed))


def _quiet_worker(number: int) -> None:
    torch.set_num_threads(1)  # they work side by side already
