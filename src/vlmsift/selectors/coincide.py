"""Share the budget by how far a concept transfers and how dense it is; inside, mirror the cluster: COINCIDE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from vlmsift.choosing.candidates import Candidates, Choice, Selector
from vlmsift.choosing.clusters import one_thread
from vlmsift.choosing.groups import Groups
from vlmsift.choosing.quota import best_of_groups
from vlmsift.choosing.spherical import Clusters, spherical_k_means, to_units
from vlmsift.errors import UsageError
from vlmsift.parameters import Count, Positive

Floats = NDArray[np.float64]
_ROWS = 512  # of a kernel or similarity matrix held at a time


@dataclass(frozen=True)
class Coincide(Selector):
    """Clusters that transfer and are sparse keep more; in each, the greedy choice whose distribution is the cluster's.

    With S the transferability and D the density of a cluster, its share is softmax(S / (D tau)). Clusters are visited
    by descending share; each gets round(budget left * its share among those left), or all it has; what is left then is
    walked out again over the clusters with room, so that the budget is exact (the released code misses it by some).
    Inside, the sample that lowers the squared MMD to the cluster most is added, one by one. Source: COINCIDE
    (arXiv 2406.10995; constants from its code), which clusters text-only samples among the others, with a blank image;
    here they are a stratum of their own (see `selecting.select`).

    Attributes:
        vector: the signal, (N, 2 * width): the image half, then the text half.
        clusters: how many; None = one per 66 rows, up to 10,000, and at least sqrt(N / 2) (published: 10,000 for 665 k
            rows, 2,500 for 186 k). More than there are rows means the same.
        transfer: which halves of the centres are compared: "text", as the released code does, or "both".
        ceiling: similarities above it are left out of a cluster's transferability. Where none is left it is 1.
        temperature: tau, above 0.
        bandwidth: g of the kernel exp(-|a - b|^2 / (2 g^2)) in density and MMD, above 0.
    """

    vector: str = "concept_states"
    clusters: Count | None = None
    transfer: Literal["text", "both"] = "text"
    ceiling: float = 0.9
    temperature: Positive = 0.1
    bandwidth: Positive = 1.0
    name: ClassVar[str] = "coincide"

    def __call__(self, candidates: Candidates, budget: int) -> Choice:
        units = to_units(candidates.vector(self.vector))  # (N, K)
        if self.transfer == "text" and units.shape[1] % 2:
            cure = "Name a signal of an image and a text half, such as concept_states, or give transfer='both'."
            raise UsageError(f"{self.vector!r} has {units.shape[1]} numbers, which are not two halves. {cure}")
        found = spherical_k_means(units, self.clusters, candidates.seed)
        with one_thread():
            return self._walked(units, found, budget)

    def _walked(self, units: NDArray[np.float32], found: Clusters, budget: int) -> Choice:
        """The choice from the unit vectors (N, K) and their clusters."""
        members = found.members()
        likeness = np.zeros(len(units))  # mean kernel of each row with its cluster
        for rows in members:
            likeness[rows] = mean_kernel(units[rows].astype(np.float64), self.bandwidth)
        sizes = np.bincount(found.codes)  # (G,)
        density = np.bincount(found.codes, likeness) / sizes  # (G,)
        transferability = mean_similarity(self._compared(found.centres), self.ceiling)  # (G,)
        quotas = walk(budget, transferability / (density * self.temperature), sizes)
        badness = np.zeros(len(units))
        for rows, quota in zip(members, quotas.tolist(), strict=True):
            badness[rows] = mirror(units[rows].astype(np.float64), likeness[rows], quota, self.bandwidth)
        names = [f"cluster {number}" for number in range(len(sizes))]
        return best_of_groups(badness, Groups(found.codes, names, {"clusters_found": len(names)}), quotas)

    def _compared(self, centres: NDArray[np.float32]) -> NDArray[np.float32]:
        whole = self.transfer == "both"
        return centres if whole else to_units(centres[:, centres.shape[1] // 2 :].copy())  # (G, K) or (G, K / 2)


def mean_similarity(units: NDArray[np.float32], ceiling: float) -> Floats:
    """(G,) mean cosine of each of the unit vectors (G, K) with the others, those above `ceiling` left out."""
    means = np.ones(len(units))
    for start in range(0, len(units), _ROWS):
        cosines = (units[start : start + _ROWS] @ units.T).astype(np.float64)  # (rows, G)
        counted = cosines <= ceiling
        own = np.arange(len(cosines))
        counted[own, start + own] = False  # nobody is compared with itself
        left, sums = counted.sum(axis=1), np.where(counted, cosines, 0).sum(axis=1)  # (rows,) each
        np.divide(sums, left, out=means[start : start + _ROWS], where=left > 0)
    return means


def mean_kernel(points: Floats, bandwidth: float) -> Floats:
    """(n,) mean Gaussian kernel of each of the points (n, K) with all of them, itself included."""
    squares = np.einsum("ij,ij->i", points, points)  # (n,)
    means = np.empty(len(points))
    for start in range(0, len(points), _ROWS):
        part = slice(start, start + _ROWS)
        apart = squares[part, None] + squares - 2 * (points[part] @ points.T)  # (rows, n)
        means[part] = np.exp(-np.maximum(apart, 0) / (2 * bandwidth**2)).mean(axis=1)
    return means


def walk(budget: int, logits: Floats, room: NDArray[np.int64]) -> NDArray[np.int64]:
    """(G,) quotas that add up to `budget`: by descending logit, round(left * softmax over those left), again and again
    over the clusters with `room` (G,) until nothing is left."""
    quotas = np.zeros(len(logits), np.int64)
    while budget > 0:
        order = np.argsort(-logits, kind="stable")
        order = order[room[order] > quotas[order]]
        rest = np.logaddexp.accumulate(logits[order][::-1])[::-1]  # log of the sum over those left
        for group, share in zip(order.tolist(), np.exp(logits[order] - rest).tolist(), strict=True):
            taken = min(round(budget * share), int(room[group] - quotas[group]))
            quotas[group] += taken
            budget -= taken
    return quotas


def mirror(points: Floats, likeness: Floats, quota: int, bandwidth: float) -> Floats:
    """(n,) when each of the points (n, K) is added by greedy MMD: 0, 1, ... for the first `quota`, and above for the
    others, the next best lowest.

    After m samples S, MMD^2 with x added is, but for what x does not change, 2/(m+1) (sum_s k(x, s)/(m+1) - r(x)) with
    k(x, x) = 1 and r the mean kernel with the cluster (`likeness`, (n,)): so one kernel column per step, no matrix.
    """
    turn, near = np.full(len(points), np.inf), np.zeros(len(points))  # (n,): when added; sum of k with those added
    squares = np.einsum("ij,ij->i", points, points)
    for step in range(quota):
        cost = np.where(np.isinf(turn), near / (step + 1) - likeness, np.inf)
        chosen = int(np.argmin(cost))
        turn[chosen] = step
        apart = squares + squares[chosen] - 2 * (points @ points[chosen])
        near += np.exp(-np.maximum(apart, 0) / (2 * bandwidth**2))
    return np.where(np.isinf(turn), quota + 1 + near / (quota + 1) - likeness, turn)
