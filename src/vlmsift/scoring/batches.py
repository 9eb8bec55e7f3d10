"""Batches -> rows of signals. In: an open model and a feed of samples. Out: the rows of one part after another.

A batch that fails is halved until the sample at fault stands alone, which becomes an error row. A lack of memory makes
all later batches smaller too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vlmsift.errors import UnsupportedModel, UsageError, split_reason
from vlmsift.models import Adapter, Encoded, Encoder
from vlmsift.passes.capture import Capture
from vlmsift.passes.loss import Head
from vlmsift.passes.measure import measure
from vlmsift.scoring.feed import Item, pack
from vlmsift.types import Signal

WINDOW = 128
"""Samples that are held encoded and sorted by length together; a multiple of it makes a part."""
MOST = 256
"""Largest batch, whatever the budget."""
GIVE_UP = 8
"""So many failures, and a window without a success, mean that the model, not the samples, is at fault."""
NOT_THE_DATA = ("unexpected", "refused by the processor", "refused by the chat template", "answer not located")
"""Kinds of reasons from the encoder that count as failures too: one sample may earn them, but hardly every sample."""


@dataclass
class Scorer:
    """Measures windows of samples.

    Attributes:
        capture: an open capture of the model.
        signals: column -> signal.
        budget: tokens per batch, padding included; halved, for good, when memory runs out.
        tick: called with (rows done, errors among them) whenever rows are done.
        proven: the model has measured a sample before, so that a failure is the sample's own.
    """

    capture: Capture
    encoder: Encoder
    signals: Mapping[str, Signal]
    budget: int
    tick: Callable[[int, int], None] = lambda rows, errors: None
    proven: bool = False
    halved: int = field(default=0, init=False)
    failed: int = field(default=0, init=False)

    def parts(self, items: Iterator[Item], sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Rows of consecutive parts, as many items each as `sizes` says: column -> values, in pool order."""
        for size in sizes:
            rows: list[dict[str, Any]] = []
            while len(rows) < size:
                window = [next(items) for _ in range(min(WINDOW, size - len(rows)))]
                rows.extend(self._window(window))
            yield {name: [row.get(name) for row in rows] for name in dict.fromkeys(key for row in rows for key in row)}

    def _window(self, window: list[Item]) -> list[dict[str, Any]]:
        ready = [(place, item.encoded) for place, item in enumerate(window) if item.encoded is not None]
        rows = [{"index": item.index, "status": "error", "reason": item.reason, **item.facts} for item in window]
        for row in rows:
            row |= {name: self._undefined(signal) for name, signal in self.signals.items()}
        self.tick(len(window) - len(ready), len(window) - len(ready))
        for members in pack([len(encoded) for _, encoded in ready], self.budget, MOST):
            for place, result in self._measured([ready[member] for member in members]):
                rows[place] |= result
            failed = sum(rows[ready[member][0]]["status"] == "error" for member in members)
            self.failed += failed
            self.proven = self.proven or failed < len(members)
            self.tick(len(members), failed)
        strange = [item for item in window if item.reason and split_reason(item.reason)[0] in NOT_THE_DATA]
        self.failed += len(strange)
        if not self.proven and self.failed >= GIVE_UP:
            example = strange[0].reason if strange else rows[ready[0][0]]["reason"]
            raise UnsupportedModel(
                f"{self.capture.adapter.name}: none of the first {self.failed} samples can be measured; one of them: "
                f"{example}. `vlmsift check` says more"
            )
        return rows

    def _measured(self, group: list[tuple[int, Encoded]]) -> Iterator[tuple[int, dict[str, Any]]]:
        """(place, columns) of each member; halves a group that fails."""
        try:
            columns = self._batch([encoded for _, encoded in group])
        except (UnsupportedModel, UsageError):  # neither is the sample's fault
            raise
        except Exception as error:
            if len(group) == 1:
                yield group[0][0], {"reason": _reason(error, group[0][1])}
                return
            short_of_memory = _out_of_memory(error)
        else:
            for row, (place, encoded) in enumerate(group):
                yield place, _row(encoded, {name: column[row] for name, column in columns.items()})
            return
        if short_of_memory:  # here the error is gone, and with it the tensors that its traceback held
            self.budget = max(1, min(self.budget, len(group) * max(len(encoded) for _, encoded in group)) // 2)
            self.halved += 1
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        middle = len(group) // 2
        yield from self._measured(group[:middle])
        yield from self._measured(group[middle:])

    def _batch(self, encoded: list[Encoded]) -> dict[str, Tensor]:
        batch = self.encoder.collate(encoded)
        needs = [need for signal in self.signals.values() for need in signal.needs]
        # lengths and draws need no forward, and then there is no loss to be checked
        measured = measure(self.capture, batch, needs) if needs else {Head(): torch.zeros(len(batch))}
        columns = {name: signal(batch, measured).float() for name, signal in self.signals.items()}
        return columns | {"": measured[Head()]}

    def _undefined(self, signal: Signal) -> Any:
        width = signal_width(signal, self.capture.adapter)
        return math.nan if width == 1 else [math.nan] * width


def signal_width(signal: Signal, adapter: Adapter) -> int:
    """How many numbers a signal keeps per sample of this model."""
    return signal.width(adapter.text_config.hidden_size, adapter.depth)


def _row(encoded: Encoded, values: dict[str, Tensor]) -> dict[str, Any]:
    """Columns of one measured sample. A loss that is not finite makes the row an error, whatever else was measured."""
    tokens = int((encoded.labels[1:] != -100).sum())
    loss = float(values.pop(""))
    if not math.isfinite(loss):
        return {"answer_tokens": tokens, "reason": f"not a number: the answer's loss is {loss} (try --dtype float32)"}
    finite = {name: value.masked_fill(value.isinf(), math.nan).tolist() for name, value in values.items()}
    return {"status": "ok", "reason": None, **finite, "answer_tokens": tokens}


def _reason(error: Exception, encoded: Encoded) -> str:
    """Why one sample alone cannot be measured."""
    if _out_of_memory(error):
        return f"out of memory: this sample alone, {len(encoded)} tokens, does not fit (try --dtype bfloat16)"
    return f"failed in the model: {type(error).__name__}: {error}"


def _out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return (
        isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "out of memory" in text or "can't allocate" in text
    )
