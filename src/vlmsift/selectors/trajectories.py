"""Cluster trajectories, take evenly from all clusters: the selector of XMAS and of S2L."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from vlmsift.choosing.candidates import Candidates, Choice, Selector
from vlmsift.choosing.clusters import default_clusters, k_means
from vlmsift.choosing.groups import Groups, by_source, one_group
from vlmsift.choosing.quota import best_of_groups
from vlmsift.choosing.run_columns import CHECKPOINTS
from vlmsift.errors import UsageError
from vlmsift.parameters import Count

PUBLISHED = {"stable": 1000, "random": 100}  # clusters of XMAS and of S2L
ROOMY = {"stable": 100, "random": 3}  # rows per cluster from which on these numbers are taken
SMALL = 2  # clusters of at most so many members only fill up


@dataclass(frozen=True)
class Trajectories(Selector):
    """k-means on one number per checkpoint, an even share for each cluster, inside it the steadiest or random rows.

    Clusters are visited from the smallest to the largest; each gets floor(budget left / clusters left), or all it has.
    Those of at most `SMALL` members only fill up what the others cannot. Source: XMAS (arXiv 2510.01454 and
    its code) for "stable", S2L (arXiv 2403.07384) for "random". Both published codes turn NaN into 0 and put the
    text-only samples in a cluster of their own; here a row with an undefined number is not ranked, and text-only ones
    are a stratum (see `selecting.select`), unless `text` says otherwise. S2L clusters inside each source:
    `balance="source"`. k-means takes 100 rounds in XMAS, 20 in S2L; here it is fitted, above 10,000 rows, on a sample
    of them, 10,000 or 256 per cluster, and by mini-batches where the sample is larger than 10,000 (see
    `clusters.k_means`).

    Attributes:
        vector: the signal, (N, T) for T checkpoints.
        inside: "stable", ascending instability sum_j |s_j - s_(j-1)|; "random", a seeded draw.
        clusters: how many; None = the published number where the N rows that are clustered together bear it, else
            sqrt(N / 2): 1000 for "stable", from 100 rows each on; 100 for "random", which the released code takes in
            every source, from 3 rows each on, so that they do more than fill up. More than N means sqrt(N / 2) too.
        scale: divide each checkpoint by its standard deviation first. The papers do not, so that the checkpoint of
            largest spread decides.
        balance: "none", the pool is clustered as a whole; or "source", each source is clustered for itself, and sources
            get even shares, smallest first, before their clusters do.
        text: text-only rows are "apart", a stratum; or one more "cluster" of the pool (of their source), drawn from at
            random, as in XMAS's released code: however many they are, they get about as much as a cluster of a few.
            Of 20,000 rows in 1,000 clusters, 2 text-only ones are kept of a budget of 10 %, where their rate would give
            120. It takes the place of text_only="same-rate"; "keep" and "drop" stay what they are.
    """

    vector: str = "trajectory"
    inside: Literal["stable", "random"] = "stable"
    clusters: Count | None = None
    scale: bool = False
    balance: Literal["none", "source"] = "none"
    text: Literal["apart", "cluster"] = "apart"
    name: ClassVar[str] = "trajectories"

    @property
    def takes_text(self) -> bool:
        return self.text == "cluster"

    def __call__(self, candidates: Candidates, budget: int) -> Choice:
        paths = self._paths(candidates)
        text = candidates.text_only & self.takes_text  # (N,)
        over = by_source(candidates) if self.balance == "source" else one_group(candidates)
        codes = np.empty(len(paths), np.int64)  # (N,) clusters over all sources
        names: list[str] = []
        quotas: list[NDArray[np.int64]] = []
        for source, share in enumerate(evenly(budget, np.bincount(over.codes))):
            label = f"{over.names[source]} / " if self.balance == "source" else ""
            own = over.codes == source
            found = self._clusters(paths[own & ~text], candidates.seed)
            kinds = [f"cluster {number}" for number in range(int(found.max(initial=-1)) + 1)]
            codes[own & ~text] = len(names) + found
            if (own & text).any():
                codes[own & text] = len(names) + len(kinds)
                kinds.append("text-only")
            quotas.append(evenly_but_small(int(share), np.bincount(codes[own] - len(names))))
            names += [label + kind for kind in kinds]
        instability = np.abs(np.diff(paths.astype(np.float64), axis=1)).sum(axis=1)  # (N, T - 1) to (N,)
        badness = np.where(text | (self.inside == "random"), 0, instability)
        details = {"balance": self.balance, "clusters_found": len(names)}
        return best_of_groups(badness, Groups(codes, names, details), np.concatenate(quotas))

    def _clusters(self, paths: NDArray[np.float32], seed: int) -> NDArray[np.int64]:
        """(n,) cluster numbers of rows that are clustered together, (n, T)."""
        published = PUBLISHED[self.inside]
        bears = len(paths) >= ROOMY[self.inside] * published
        wanted = self.clusters or (published if bears else default_clusters(len(paths)))
        spread = paths.std(axis=0, dtype=np.float64).astype(np.float32) if self.scale and len(paths) else np.float32(1)
        return k_means(paths / np.where(spread > 0, spread, np.float32(1)), wanted, seed, spherical=False)

    def _paths(self, candidates: Candidates) -> NDArray[np.float32]:
        """(N, T) with T at least 2; a run stores the numbers of one checkpoint as a scalar column."""
        if self.vector in candidates.vectors and (paths := candidates.vector(self.vector)).shape[1] > 1:
            return paths
        raise UsageError(f"{self.vector!r} is one number per sample, a trajectory has at least 2. {CHECKPOINTS}")


def evenly(budget: int, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(G,) quotas: by ascending size, floor(left / groups left), or the whole group. They add up to `budget`, unless
    all groups are taken whole: once a group is not, each later one is larger and its share at most one above."""
    quotas = np.zeros(len(sizes), np.int64)
    for visited, group in enumerate(np.argsort(sizes, kind="stable")):
        quotas[group] = min(sizes[group], budget // (len(sizes) - visited))
        budget -= int(quotas[group])
    return quotas


def evenly_but_small(budget: int, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """`evenly` over the groups of more than `SMALL` members, and the rest over the others."""
    large = sizes > SMALL
    quotas = evenly(budget, np.where(large, sizes, 0))
    return quotas + evenly(budget - int(quotas.sum()), np.where(large, 0, sizes))
