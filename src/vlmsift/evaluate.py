"""How well a model answers. In: a model and samples. Out: per task, the share of exact answers and their loss."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vlmsift.errors import UnsupportedModel, VlmsiftError
from vlmsift.specs import EngineSpec, ModelSpec, PoolSpec, as_spec

if TYPE_CHECKING:
    from vlmsift.models import Adapter, Encoded
    from vlmsift.pools import Pool
    from vlmsift.train.data import EncodedData

EVERYTHING = "all"
"""The task of samples that name none."""


@dataclass(frozen=True)
class TaskResult:
    """One task's answers."""

    samples: int  # those that were judged
    exact: float
    """Share of them, 0 to 1, that greedy decoding answers exactly, to the end of the turn; of a conversation, every
    answer must be right, given the right ones before it. NaN where none was judged."""
    loss: float  # mean over samples of the mean over the answer's tokens, in nats; lower is better. NaN as above
    errors: int  # samples that could not be judged: unreadable, or the model failed on them
    reasons: Mapping[str, int] = field(default_factory=dict)  # why, and of how many


def evaluate(
    model: str | Path | ModelSpec | Adapter,
    data: str | Path | PoolSpec | Pool | EncodedData,
    *,
    engine: EngineSpec | None = None,
) -> dict[str, TaskResult]:
    """Judge a model on samples whose answers are known; one forward per batch.

    An answer is what greedy decoding gives if each of its tokens is the likeliest after the right tokens before it, and
    only then: so one forward over the right answer judges it, without generating. Source: ours.

    Returns task (`Sample.source`; "all" where there is none) -> its result, in the order of the names. Raises
    UsageError where no sample can be used, or encoded ones are another model's, UnsupportedModel if it fails on all.
    """
    from vlmsift.models import open_model
    from vlmsift.pools import open_image, open_pool
    from vlmsift.scoring.batches import GIVE_UP
    from vlmsift.scoring.packing import pack
    from vlmsift.train.data import EncodedData

    engine, named = engine or EngineSpec(), as_spec(ModelSpec, model)
    if not isinstance(data, EncodedData):
        data = open_pool(as_spec(PoolSpec, data))  # before the model: a wrong path is told at once
    model = open_model(named) if isinstance(named, ModelSpec) else named
    if not isinstance(data, EncodedData):
        encoder = model.encoder(partial(open_image, root=data.image_root))
        data = EncodedData.read(data, encoder, workers=engine.workers)
    data.refuse_other_encoder(model)
    judged: dict[str, list[tuple[bool, float]]] = {}
    errors: dict[str, Counter[str]] = {}
    for name, reason in data.skipped.items():
        errors.setdefault(data.source_of(name) or EVERYTHING, Counter())[reason] += 1
    failed: list[str] = []
    training = model.model.training
    model.model.eval()
    try:
        for places in pack(data.lengths, engine.budget(model.device.type)):
            answers = _answers(model, data, [data[place] for place in places])
            for place, answer in zip(places, answers, strict=True):
                task = data.sources[place] or EVERYTHING
                if isinstance(answer, str):
                    errors.setdefault(task, Counter())[answer] += 1
                    failed.append(answer)
                else:
                    judged.setdefault(task, []).append(answer)
            if not judged and len(failed) >= min(GIVE_UP, len(data)):
                raise UnsupportedModel(
                    f"{model.name}: none of the first {len(failed)} samples can be judged; one of them: {failed[0]}"
                )
    finally:
        model.model.train(training)
    return {task: _result(judged.get(task, []), errors.get(task, Counter())) for task in sorted({*judged, *errors})}


def _answers(adapter: Adapter, data: EncodedData, samples: Sequence[Encoded]) -> list[tuple[bool, float] | str]:
    """(exact, loss) of each sample, or why the model fails on it alone; a batch that fails is halved."""
    from vlmsift.scoring.batches import failure, stop_at_device_fault

    try:
        return list(_judged(adapter, data, samples))
    except VlmsiftError:  # not the sample's fault
        raise
    except Exception as error:
        stop_at_device_fault(error)
        if len(samples) == 1:
            return [failure(error, samples[0])]
    # the error is gone here, and with it the tensors that its traceback held
    middle = len(samples) // 2
    return _answers(adapter, data, samples[:middle]) + _answers(adapter, data, samples[middle:])


def _judged(adapter: Adapter, data: EncodedData, samples: Sequence[Encoded]) -> Iterator[tuple[bool, float]]:
    """(exact, loss in nats) of each sample, from the head at supervised positions only."""
    import torch

    batch = data.encoder.collate(samples)
    with torch.no_grad():
        hidden = adapter.backbone(batch, adapter.inputs(batch))  # (B, T, D)
        for row in range(len(batch)):
            asked = batch.query_mask[row].nonzero()[:, 0]  # (answer tokens,): the rows that predict them
            targets = batch.labels[row, asked + 1]  # (answer tokens,)
            logits = adapter.head(hidden[row, asked.to(hidden.device)]).to(targets.device)  # (answer tokens, V)
            loss = torch.nn.functional.cross_entropy(logits, targets)
            yield bool((logits.argmax(-1) == targets).all()), float(loss)


def _result(judged: list[tuple[bool, float]], reasons: Counter[str]) -> TaskResult:
    exact, loss = math.nan, math.nan
    if judged:
        exact, loss = (sum(values) / len(judged) for values in zip(*judged, strict=True))
    return TaskResult(len(judged), exact, loss, reasons.total(), dict(reasons))
