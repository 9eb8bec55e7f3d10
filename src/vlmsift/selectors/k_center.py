"""Spread the kept samples: each next one is the farthest from those kept so far."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from vlmsift.choosing.candidates import Candidates, Choice, Selector
from vlmsift.choosing.clusters import one_thread, search_cells
from vlmsift.choosing.nearest_kept import named
from vlmsift.choosing.partitions import in_parts
from vlmsift.choosing.spherical import members_of
from vlmsift.choosing.words import either, same
from vlmsift.parameters import Count


@dataclass(frozen=True)
class KCenter(Selector):
    """Farthest-first traversal: no sample lies farther from its nearest kept one than twice what is possible.

    In a pool of more than `whole` rows a kept sample counts for its own k-means cluster alone, of `whole` / 5 rows at
    most, and the next one is the farthest of all clusters: the cost is then budget * N / clusters distances instead of
    budget * N, and the bound holds within each cluster only. It seeks outliers. Source: textbook (Gonzalez 1985).

    Attributes:
        vector: the signal, (N, K); Euclidean distance.
        start: who is first: "farthest" from the mean, or "random" by seed.
        whole: pools up to this size are traversed whole.
        at_once: from larger pools is chosen in random parts of at most so many, then among what these chose (see
            `partitions.in_parts`).
    """

    vector: str = "hidden_mean"
    start: Literal["farthest", "random"] = "farthest"
    whole: Count = 20_000
    at_once: Count = 1_000_000
    name: ClassVar[str] = "k_center"

    def __call__(self, candidates: Candidates, budget: int) -> Choice:
        if len(candidates) > self.at_once:
            return in_parts(candidates, budget, self.at_once, self)
        points = candidates.vector(self.vector)  # (N, K)
        points -= points.mean(axis=0, dtype=np.float64).astype(np.float32)  # small numbers lose less in a difference
        cells = search_cells(points, self.whole, candidates.seed)
        with one_thread():
            kept, distance, nearest = farthest_first(points, cells, budget, from_mean=self.start == "farthest")
        reached = nearest >= 0
        far = "the budget ends before its cluster keeps one"
        reasons = either(reached, named(candidates, "distance", distance, np.maximum(nearest, 0)), far)
        largest = float(np.max(distance[reached], initial=0))
        details = {"cells": int(cells.max()) + 1, "largest_distance_to_kept": largest}
        return Choice(kept, same(candidates.stratum, len(points)), reasons, details)


def farthest_first(
    points: NDArray[np.float32], cells: NDArray[np.int64], budget: int, *, from_mean: bool
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """(budget,) rows in the order kept; each row's distance to the nearest of them in its cell; and which that is.

    In a cell that has none yet, "which" is -1 and the distance is the one to the mean (the origin), or 0; all such
    cells come first. Distances that are equal to the last bit go to the earlier row.
    """
    members = members_of(cells)
    inside = [points[rows] for rows in members]  # each (n, K)
    squares = [np.einsum("ij,ij->i", part, part) for part in inside]
    near = [part.copy() if from_mean else np.zeros_like(part) for part in squares]
    whose = [np.full(len(rows), -1) for rows in members]
    queue = [(False, -float(part.max()), cell) for cell, part in enumerate(near)]
    heapq.heapify(queue)
    kept: list[int] = []
    for _ in range(budget):
        opened, _, cell = queue[0]
        here = int(np.argmax(near[cell]))
        kept.append(int(members[cell][here]))
        if not opened:
            near[cell][:] = np.inf
        apart = np.maximum(squares[cell] + squares[cell][here] - 2 * (inside[cell] @ inside[cell][here]), 0)  # (n,)
        nearer = apart < near[cell]
        near[cell][nearer], whose[cell][nearer] = apart[nearer], members[cell][here]
        near[cell][here] = -1  # never twice
        heapq.heapreplace(queue, (True, -float(near[cell].max()), cell))
    distance, nearest = np.empty(len(points), np.float32), np.empty(len(points), np.int64)
    distance[np.concatenate(members)] = np.sqrt(np.maximum(np.concatenate(near), 0))
    nearest[np.concatenate(members)] = np.concatenate(whose)
    return np.array(kept, np.int64), distance, nearest
