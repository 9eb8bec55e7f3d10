"""What `measure` itself takes of the host, beside the modules that it runs: a cap on what a small model can score.

    python benchmarks/host_time.py                  # 32 layers, default signals and all signals
    python benchmarks/host_time.py --layers 64

A decoder of many layers and tiny widths, so that nearly all time is Python and dispatch. Own time is that of `measure`
less the model's own forward, and less the same forward's share for the layers that are run again. CPU time, medians of
rounds in which the ways take turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from passes import SHAPES, build
from vlmsift.models import Adapter
from vlmsift.passes.capture import Capture
from vlmsift.passes.measure import measure
from vlmsift.signals import DEFAULT_SIGNALS, SIGNALS, build_signals
from vlmsift.types import Batch

SAMPLES, LENGTH, ANSWER, IMAGE = 8, 48, 8, 24


def make_batch() -> Batch:
    """Samples of different lengths: a special token, an image, a prompt, an answer, padding."""
    place = torch.arange(LENGTH).expand(SAMPLES, -1)
    end = LENGTH - torch.arange(SAMPLES)[:, None]  # each sample is a token shorter than the last
    image = (place >= 1) & (place <= IMAGE)
    answer = (place >= end - ANSWER) & (place < end)
    query = torch.zeros_like(answer)
    query[:, :-1] = answer[:, 1:]
    ids = torch.randint(1, 400, place.shape, generator=torch.Generator().manual_seed(0))
    return Batch(
        ids=tuple(map(str, range(SAMPLES))),
        inputs={"input_ids": ids, "attention_mask": (place < end).long()},
        labels=ids.where(answer, -100),
        image_mask=image,
        image_index=torch.where(image, 0, -1),
        special_mask=place == 0,
        valid=place < end,
        query_mask=query,
    )


def seconds(way: Any) -> float:
    started = time.process_time()
    way()
    return time.process_time() - started


def needs_of(words: list[str]) -> list[Any]:
    return [need for signal in build_signals(words).values() for need in signal.needs]


def operators(adapter: Adapter, batch: Batch, needs: list[Any], forward: Any) -> tuple[float, int]:
    """What `measure` dispatches beyond the forward and its share again, and how often a single number is read."""
    seen: list[Any] = []

    class Listed(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(function)
            return function(*args, **(kwargs or {}))

    with Capture(adapter) as capture, Listed():  # type: ignore[no-untyped-call]
        forward()
        plain = len(seen)
        seen.clear()
        measure(capture, batch, needs)
    again = sum(need.cost(adapter.depth) for need in dict.fromkeys(needs))
    return len(seen) - plain * (1 + again), seen.count(torch.ops.aten._local_scalar_dense.default)


def table(adapter: Adapter, rounds: int) -> None:
    """Print one line for each set of signals."""
    batch, depth = make_batch(), adapter.depth
    every = [f"{name}:heads=0.1" if name == "attention_influence" else name for name in SIGNALS]
    sets = {"the loss alone": [], "default signals": needs_of(list(DEFAULT_SIGNALS)), "all signals": needs_of(every)}

    def forward() -> None:
        with torch.no_grad():
            adapter.backbone(batch, adapter.inputs(batch))

    with Capture(adapter) as capture:
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in sets}
        for number in range(rounds + 1):
            for name, needs in sets.items():
                plain = seconds(forward)
                whole = seconds(lambda needs=needs: measure(capture, batch, needs))
                if number:  # the first round is not counted
                    again = sum(need.cost(depth) for need in dict.fromkeys(needs))
                    found[name].append((whole, whole - plain * (1 + again)))
    counts = {name: operators(adapter, batch, needs, forward) for name, needs in sets.items()}
    print(f"{depth} layers, {SAMPLES} samples of {LENGTH} tokens, {rounds} rounds, CPU ms a batch")
    print("| signals | measure | of it its own | its own operators | reads of a number |\n|---|---|---|---|---|")
    for name, pairs in found.items():
        whole, own = (1e3 * statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"| {name} | {whole:.1f} | {own:.1f} | {counts[name][0]:.0f} | {counts[name][1]} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=31)
    options = parser.parse_args()
    torch.set_num_threads(1)
    SHAPES["host"] = (64, options.layers, 4, 2, 128, 512)
    table(build("host", torch.float32, "cpu"), options.rounds)


if __name__ == "__main__":
    main()
