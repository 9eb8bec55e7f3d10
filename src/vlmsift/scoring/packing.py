"""Lengths -> batches of like length. In: the lengths of a window's samples. Out: places, grouped.

A batch costs what its tokens cost, padding included, and a forward's fixed cost. Few large batches pad much, many small
ones pay the fixed cost often: `pack` finds the cut between them that costs least.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WINDOW = 512  # samples that are held encoded and sorted by length together; as many make a part
WINDOW_BYTES = 1 << 30  # of their tensors, where that is reached first
MOST = 256  # samples in a batch, whatever the budget
FORWARD = 128
"""What a forward costs beside its tokens, as tokens: 12 ms against 0.08 ms a token for the embedded model on one core
(benchmarks/padding.py --forward), where it matters most: in a large model a window's lengths lie close together."""


def pack(lengths: Sequence[int], budget: int, most: int = MOST, forward: int = FORWARD) -> list[list[int]]:
    """Places of samples in batches: like lengths together, longest x count within `budget` tokens, at least cost.

    A sample longer than the budget is a batch of its own. Deterministic; longest first, so that the largest batch
    comes early and a lack of memory shows at once.
    """
    order = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    longest = np.array([lengths[place] for place in order], np.int64)  # (n,): of a batch that begins here
    cost = np.zeros(len(order) + 1, np.int64)  # of the first so many samples, in tokens
    begins = np.zeros(len(order) + 1, np.int64)  # where the last of their batches begins
    for end in range(1, len(order) + 1):
        starts = np.arange(max(0, end - most), end)
        tokens = longest[starts] * (end - starts)
        starts, tokens = (one[(tokens <= budget) | (starts == end - 1)] for one in (starts, tokens))
        costs = cost[starts] + tokens + forward
        best = int(np.argmin(costs))
        cost[end], begins[end] = costs[best], starts[best]
    batches: list[list[int]] = []
    end = len(order)
    while end:
        batches.append(order[begins[end] : end])
        end = int(begins[end])
    return batches[::-1]
