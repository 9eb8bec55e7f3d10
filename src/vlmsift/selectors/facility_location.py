"""Keep the samples that stand for the pool: the likeness of each one to its nearest kept sample, summed, is largest."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vlmsift.choosing.candidates import Candidates, Choice, Selector
from vlmsift.choosing.clusters import one_thread, search_cells
from vlmsift.choosing.nearest_kept import named
from vlmsift.choosing.partitions import in_parts
from vlmsift.choosing.spherical import members_of, to_units
from vlmsift.choosing.words import either, same
from vlmsift.parameters import Count


@dataclass(frozen=True)
class FacilityLocation(Selector):
    """Greedy maximum of sum_i max_{j kept} s_ij, where s is the cosine of directions from the mean, none below 0.

    Only each sample's nearest neighbours count as its likes, and in a pool of more than `whole` rows only those in its
    own k-means cluster, of `whole` / 5 rows at most, so that neither time nor memory grows with N^2. On that graph the
    greedy choice is exact (lazy evaluation; at least 1 - 1/e of the best sum); equal gains fall by seed. Source:
    textbook (Mirchandani & Francis 1990; greedy bound by Nemhauser et al. 1978); directions from the mean are ours:
    hidden states share a large part.

    Attributes:
        vector: the signal, (N, K).
        neighbours: how many of each sample's nearest others count.
        whole: pools up to this size are searched whole for neighbours.
        at_once: from larger pools is chosen in random parts of at most so many, then among what these chose (see
            `partitions.in_parts`).
    """

    vector: str = "hidden_mean"
    neighbours: Count = 64
    whole: Count = 20_000
    at_once: Count = 1_000_000
    name: ClassVar[str] = "facility_location"

    def __call__(self, candidates: Candidates, budget: int) -> Choice:
        if len(candidates) > self.at_once:
            return in_parts(candidates, budget, self.at_once, self)
        units = candidates.vector(self.vector)  # (N, K)
        units -= units.mean(axis=0, dtype=np.float64).astype(np.float32)
        to_units(units)
        cells = search_cells(units, self.whole, candidates.seed)
        kept, likeness, nearest = greedy(neighbour_graph(units, cells, self.neighbours), budget)
        near = named(candidates, "stood for: similarity", likeness, nearest)
        alone = "no kept sample is among its neighbours, and others stand for more"
        reasons = either(likeness > 0, near, alone)
        details = {"cells": int(cells.max()) + 1, "mean_similarity_to_kept": float(likeness.mean())}
        return Choice(kept, same(candidates.stratum, len(units)), reasons, details)


def neighbour_graph(units: NDArray[np.float32], cells: NDArray[np.int64], neighbours: int) -> Any:
    """(N, N) scipy CSC, float64: in row i the cosines, above 0, with its nearest others of its cell, and 1 for itself.

    The cosine is 1 - |a - b|^2 / 2, rounded to 6 digits, which is all that float32 holds: equal rows shall tie.
    """
    from scipy.sparse import csc_array
    from sklearn.neighbors import NearestNeighbors

    everyone = np.arange(len(units))
    rows, columns, values = [everyone], [everyone], [np.ones(len(units))]
    for members in members_of(cells):
        count = min(neighbours, len(members) - 1)
        if count < 1:
            continue
        with one_thread():
            search = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(units[members])
            apart, found = search.kneighbors()  # (n, count) each, of others: a row is not its own neighbour
        cosines = np.round(1 - np.square(apart, dtype=np.float64) / 2, 6)
        like = cosines > 0
        rows.append(np.repeat(members, like.sum(axis=1)))
        columns.append(members[found[like]])
        values.append(cosines[like])
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    return csc_array(entries, shape=(len(units), len(units)))


def greedy(graph: Any, budget: int) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """(budget,) columns in the order of their gains; each row's largest entry among them; and whose that is.

    Lazy: a gain only ever falls, so whoever leads with a gain computed in this round has the largest. Equal gains go to
    the earlier column.
    """
    starts, rows, values = graph.indptr.tolist(), graph.indices, graph.data
    best, whose = np.zeros(graph.shape[0]), np.zeros(graph.shape[0], np.int64)
    queue = [(-float(gain), column, 0) for column, gain in enumerate(graph.sum(axis=0))]
    heapq.heapify(queue)
    kept: list[int] = []
    while len(kept) < budget:
        _, column, computed = queue[0]
        part = slice(starts[column], starts[column + 1])
        if computed < len(kept):
            gain = float(np.maximum(values[part] - best[rows[part]], 0).sum())
            heapq.heapreplace(queue, (-gain, column, len(kept)))
            continue
        heapq.heappop(queue)
        kept.append(column)
        nearer = values[part] > best[rows[part]]
        best[rows[part][nearer]], whose[rows[part][nearer]] = values[part][nearer], column
    return np.array(kept, np.int64), best, whose
