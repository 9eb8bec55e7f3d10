"""How often a vision tower that attends window by window calls attention, and what that takes of the host.

    python benchmarks/towers.py                # Qwen2.5-VL's tower, all its layers and windows, but narrow

Before: the model's own way, a call for each window and layer. After: as it is scored, a call for each length. Operators
are all that is dispatched: on a GPU each costs the host a launch. CPU time in float32 on one thread, medians of rounds
in which the two take turns; their results are compared bit for bit.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vlmsift.models.towers import grouped_windows

KERNEL = nn.functional.scaled_dot_product_attention


def build() -> Any:
    """The tower of Qwen2.5-VL in all but its widths."""
    from transformers import Qwen2_5_VLConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

    torch.manual_seed(0)
    vision = {"hidden_size": 64, "out_hidden_size": 64, "num_heads": 4, "intermediate_size": 96}
    config = Qwen2_5_VLConfig(vision_config=vision).vision_config
    config._attn_implementation = "sdpa"
    return Qwen2_5_VisionTransformerPretrainedModel(config).eval().requires_grad_(False)


def run(tower: Any, pixels: Tensor, grids: Tensor, grouped: bool) -> tuple[Tensor, int, float]:
    """What the tower gives out, how often it called attention, and CPU seconds."""
    calls = [0]

    def counting(*arguments: Any, **named: Any) -> Tensor:
        calls[0] += 1
        return KERNEL(*arguments, **named)

    nn.functional.scaled_dot_product_attention = counting
    started = time.process_time()
    try:
        with torch.no_grad(), grouped_windows(tower) if grouped else nullcontext():
            output: Tensor = tower(pixels, grid_thw=grids).last_hidden_state  # (patches, D)
    finally:
        nn.functional.scaled_dot_product_attention = KERNEL
    return output, calls[0], time.process_time() - started


def operators(tower: Any, pixels: Tensor, grids: Tensor, grouped: bool) -> int:
    """How many are dispatched."""
    count = 0

    class Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal count
            count += 1
            return function(*args, **(kwargs or {}))

    with Counted():  # type: ignore[no-untyped-call]
        run(tower, pixels, grids, grouped)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tower = build()
    batches = {"1 image of 3,000 patches": [(50, 60)], "4 of that size": [(50, 60)] * 4}
    batches["4 of different sizes"] = [(50, 60), (36, 48), (64, 40), (28, 28)]
    print("| batch | calls before | after | operators before | after | CPU ms before | after | largest difference |")
    print("|---|---|---|---|---|---|---|---|")
    for name, sizes in batches.items():
        grids = torch.tensor([(1, height, width) for height, width in sizes])
        pixels = torch.randn(int(grids.prod(1).sum()), 3 * 2 * 14 * 14, generator=torch.Generator().manual_seed(0))
        found: list[list[tuple[Tensor, int, float]]] = [
            [run(tower, pixels, grids, grouped) for grouped in (False, True)] for _ in range(options.rounds)
        ]
        (slow, before, _), (fast, after, _) = found[0]
        times = [f"{1e3 * statistics.median(pair[side][2] for pair in found):.0f}" for side in (0, 1)]
        counts = " | ".join(str(operators(tower, pixels, grids, grouped)) for grouped in (False, True))
        apart = float((slow - fast).abs().max())
        print(f"| {name} | {before} | {after} | {counts} | {times[0]} | {times[1]} | {apart} |")


if __name__ == "__main__":
    main()
