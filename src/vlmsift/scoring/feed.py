"""Samples in pool order, encoded by worker processes.

In: a pool, an encoder, and which rows are wanted. Out: encoded samples (or the reason why not) in order. Large tensors
come through memory that is shared with the workers, small ones through the pipe.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, get_worker_info

from vlmsift.errors import SampleError, VlmsiftError
from vlmsift.models import Adapter, Encoded, Encoder, Prepare
from vlmsift.pools import Pool, open_image
from vlmsift.scoring import shared
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

    def __init__(self, pool: Pool, encoder: Encoder, prepare: Prepare | None) -> None:
        self.pool, self.encoder, self.prepare = pool, encoder, prepare

    def __getitem__(self, index: int) -> Item:
        facts: dict[str, Any] = {"id": self.pool.ids[index], "source": self.pool.source(index), "images": 0}
        try:
            with patience():
                sample = self.pool[index]
                facts["images"] = len(sample.images)
                facts |= {"answer_key": answer_key(sample), "question": question_key(sample)}
                answers = tuple(turn.text for turn in sample.turns if turn.role == "assistant")
                encoded = self.encoder.encode(sample)
                return Item(index, facts, self.prepare(encoded) if self.prepare else encoded, None, answers)
        except SampleError as error:
            return Item(index, facts, None, str(error))
        except Exception as error:  # one row's surprise must not end a run of millions
            return Item(index, facts, None, f"unexpected: {type(error).__name__}: {error}")


@dataclass
class Feed:
    """Iterates over items in the order of `indices`."""

    pool: Pool
    encoder: Encoder
    indices: Iterable[int]  # rows of the pool; asked for as late as the processes are to have work
    workers: int = 1  # processes that read and encode; 0 = in this process
    prepare: Prepare | None = None  # what the model needs beside; None = samples as they are encoded
    shared_bytes: int = shared.MOST  # at most, with all workers together; 0 = everything goes through the pipe

    def __iter__(self) -> Iterator[Item]:
        rooms = shared.make_rooms(self.workers, self.shared_bytes) if self.workers else []
        how: dict[str, Any] = {"num_workers": self.workers}
        if self.workers:
            # forked workers share the pool's memory map and the processor; they never touch the model or a device
            context = None if sys.platform == "win32" else "fork"
            send = partial(_for_the_pipe, rooms)
            how |= {"collate_fn": send, "prefetch_factor": 16, "multiprocessing_context": context}
        rows: Any = _Encoding(self.pool, self.encoder, self.prepare)
        items = iter(DataLoader(rows, batch_size=None, sampler=self.indices, worker_init_fn=_quiet_worker, **how))
        while True:
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
            yield _converted(item, partial(_received, rooms))


def _for_the_pipe(rooms: Sequence[shared.Room], item: Item) -> Item:
    """NumPy arrays for small tensors, places in shared memory for large ones, as long as there is room.

    As a tensor each would be sent as a file descriptor of its own, which is slower, and needs /dev/shm.
    """
    worker = get_worker_info()
    room = rooms[worker.id] if rooms and worker else None

    def sent(value: Any) -> Any:
        place = room.put(value) if room is not None and value.nbytes >= shared.LARGE else None
        if place is not None:
            return place
        return _Bits(value.view(torch.int16).numpy()) if value.dtype is torch.bfloat16 else value.numpy()

    return _converted(item, sent)


@dataclass(frozen=True, slots=True)
class _Bits:
    """A bfloat16 tensor, which NumPy does not know, as the integers that its bits are."""

    values: NDArray[np.int16]


def _received(rooms: Sequence[shared.Room], value: Any) -> Any:
    match value:
        case torch.Tensor():
            return value
        case shared.Place():
            return rooms[value.worker].get(value)
        case _Bits():
            return torch.from_numpy(value.values).view(torch.bfloat16)
        case _:
            return torch.from_numpy(value)


def _converted(item: Item, convert: Callable[[Any], Any]) -> Item:
    """The item with `convert` applied to every tensor (or what it was sent as) in it."""
    if (encoded := item.encoded) is None:
        return item
    changed: dict[str, Any] = {name: convert(getattr(encoded, name)) for name in ("input_ids", "labels", "image_index")}
    for name in ("rows", "images"):
        changed[name] = {key: convert(value) for key, value in getattr(encoded, name).items()}
    return replace(item, encoded=replace(encoded, **changed))


def _quiet_worker(number: int) -> None:
    torch.set_num_threads(1)  # they work side by side already
