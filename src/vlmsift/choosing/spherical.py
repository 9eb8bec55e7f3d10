"""k-means by direction, as SemDeDup and COINCIDE run it. In: unit vectors (N, K). Out: cluster numbers and centres.

scikit-learn has no such k-means: its centres are plain means, the shorter the looser a cluster is, so that looseness
counts beside the angle. Here every centre has unit length.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlmsift.choosing.clusters import FITTED_PER_CLUSTER, one_thread

MOST = 10_000  # clusters by default, at most: COINCIDE's for LLaVA-665K
ROWS_PER_CLUSTER = 66  # both published pools have 62 to 75
STARTED_PER_CLUSTER = 10  # rows that the starting centres are picked from
BLOCK = 2**24  # similarities held at a time


class Clusters(NamedTuple):
    """G clusters, none empty, of N unit vectors."""

    codes: NDArray[np.int64]  # (N,), 0 to G - 1
    centres: NDArray[np.float32]  # (G, K), of length 1

    def members(self) -> list[NDArray[np.int64]]:
        """Each cluster's rows, ascending."""
        return members_of(self.codes)


def members_of(codes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The rows of each of the clusters `codes` (N,), ascending."""
    return np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])


def fine_clusters(count: int) -> int:
    """sqrt(N / 2), or one per `ROWS_PER_CLUSTER` rows where that is more; from 1 to `MOST`."""
    return int(np.clip(max(round((count / 2) ** 0.5), count // ROWS_PER_CLUSTER), 1, MOST))


def to_units(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same array (N, K), each row scaled to length 1 in place; a zero row stays zero."""
    for start in range(0, len(vectors), 2**16):
        rows = vectors[start : start + 2**16]
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return vectors


def spherical_k_means(
    units: NDArray[np.float32], clusters: int | None = None, seed: int = 0, rounds: int = 50
) -> Clusters:
    """Centres that rows of unit length (N, K), in random order, N at least 1, are most parallel to.

    Starts from k-means++; then each row joins the centre of largest cosine, and each centre becomes the direction of
    its rows' sum, until no row moves. Fits on the first `FITTED_PER_CLUSTER` rows per cluster, as FAISS does.

    Args:
        clusters: how many; None, or more than N, means `fine_clusters(N)`. Fewer come out where rows coincide.
        rounds: at most so many.
    """
    from scipy.sparse import csr_array
    from sklearn.cluster import kmeans_plusplus

    count = len(units)
    if clusters is None or clusters > count:
        clusters = fine_clusters(count)
    fitted = units[: clusters * FITTED_PER_CLUSTER]
    # one thread in each product, several products at a time: the sums are the same on any number of cores
    with one_thread(), ThreadPoolExecutor(os.cpu_count()) as workers:
        centres, _ = kmeans_plusplus(units[: clusters * STARTED_PER_CLUSTER], clusters, random_state=seed)
        codes = np.full(len(fitted), -1)  # (n,); centres (G, K)
        for _ in range(rounds):
            before, codes = codes, _nearest(fitted, centres, workers)
            if (before == codes).all():
                break
            belongs = csr_array((np.ones(len(codes), np.float32), codes, np.arange(len(codes) + 1)))  # (n, G or less)
            sums = np.zeros_like(centres)
            sums[: belongs.shape[1]] = belongs.T @ fitted
            filled = sums.any(axis=1)  # an empty cluster's centre, or one of opposite rows, stays where it is
            centres[filled] = to_units(sums[filled])
        found, packed = np.unique(_nearest(units, centres, workers), return_inverse=True)
    return Clusters(packed.astype(np.int64), centres[found])


def _nearest(units: NDArray[np.float32], centres: NDArray[np.float32], workers: Any) -> NDArray[np.int64]:
    """(N,) the centre of largest cosine; of equal ones the first."""
    step = max(1, BLOCK // len(centres))
    blocks = [units[start : start + step] for start in range(0, len(units), step)]
    return np.concatenate(list(workers.map(lambda block: np.argmax(block @ centres.T, axis=1), blocks)))
