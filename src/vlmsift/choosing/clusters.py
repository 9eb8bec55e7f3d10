"""k-means on a vector signal. In: (N, K) float32. Out: (N,) cluster numbers, the same whenever the rows are the same.

Fits on the first rows only (the candidates' order is random, so they are a fair sample) and assigns the rest in chunks,
so that 10^6 rows of width 1,024 need little beyond the vectors themselves.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 1000  # clusters by default, at most
FITTED_PER_CLUSTER = 256  # rows that a centre is fitted on; more hardly moves it
SMALL = 10_000  # rows up to which full k-means is cheap
CHUNK = 16_384  # rows assigned at a time


Nearest = Callable[[NDArray[np.float32]], NDArray[np.int32]]
"""(n, K) vectors -> (n,) numbers of their nearest centres."""


def one_thread() -> Any:
    """A context without threads: they add up sums in any order, and a rounding can move a row to another cluster."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    return threadpool_limits(limits=1)


def default_clusters(count: int) -> int:
    """sqrt(N / 2) rounded, from 1 to `MOST`."""
    return int(np.clip(round((count / 2) ** 0.5), 1, MOST))


def k_means(
    vectors: NDArray[np.float32], clusters: int | None = None, seed: int = 0, *, spherical: bool = True
) -> NDArray[np.int64]:
    """(N,) cluster numbers from 0, every one in use, of N finite vectors (N, K) in random order.

    Args:
        clusters: how many; None, or more than N, means `default_clusters(N)`. Fewer come out where vectors coincide.
        spherical: compare directions from the mean vector. Hidden states share a large common part, and lengths that
            say little, which would drown the rest. False: plain Euclidean distance.
    """
    if len(vectors) == 0:
        return np.zeros(0, np.int64)
    clusters, fitted = sizes(len(vectors), clusters)
    nearest = fit_k_means(vectors[:fitted], clusters, seed, spherical=spherical)
    return np.unique(nearest(vectors), return_inverse=True)[1].astype(np.int64)


def sizes(count: int, clusters: int | None) -> tuple[int, int]:
    """How many clusters `k_means` makes of `count` vectors, and on how many of them it fits."""
    if clusters is None or clusters > count:
        clusters = default_clusters(count)
    return clusters, min(count, max(SMALL, clusters * FITTED_PER_CLUSTER))


def fit_k_means(fitted: NDArray[np.float32], clusters: int, seed: int, *, spherical: bool = True) -> Nearest:
    """k-means on the vectors `fitted` (n, K). Returns what tells the nearest centre of any others, some of which may be
    nobody's."""
    from sklearn.cluster import KMeans, MiniBatchKMeans

    centre = fitted.mean(axis=0, dtype=np.float64).astype(np.float32) if spherical else None
    fitted = _prepare(fitted, centre)
    common = {"n_clusters": clusters, "random_state": seed}
    if len(fitted) <= SMALL:
        model = KMeans(n_init=4, **common)
    else:
        model = MiniBatchKMeans(n_init=3, batch_size=max(4096, 4 * clusters), **common)
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "fewer distinct points than clusters" is answered by the renumbering below
        model.fit(fitted)

    def nearest(vectors: NDArray[np.float32]) -> NDArray[np.int32]:
        with one_thread():
            found = [model.predict(_prepare(vectors[at : at + CHUNK], centre)) for at in range(0, len(vectors), CHUNK)]
        return np.concatenate([np.zeros(0, np.int32), *found])

    return nearest


def search_cells(vectors: NDArray[np.float32], whole: int, seed: int = 0) -> NDArray[np.int64]:
    """(N,) cell numbers from 0, every one in use, of N finite vectors (N, K) in random order, to search each by itself.

    One cell where N is `whole` or less; else clusters of `k_means`, those of more than `whole` / 5 rows clustered
    again, as one cluster may hold a tenth of a pool and a search takes the square of its rows. What no clustering parts
    is cut as it comes.
    """
    return np.zeros(len(vectors), np.int64) if len(vectors) <= whole else _cut(vectors, max(2, whole // 5), seed)


def _cut(vectors: NDArray[np.float32], most: int, seed: int) -> NDArray[np.int64]:
    """(N,) cell numbers from 0, of which none has more than `most` rows."""
    if len(vectors) <= most:
        return np.zeros(len(vectors), np.int64)
    codes = k_means(vectors, max(2, default_clusters(len(vectors))), seed, spherical=False)
    if codes.max() == 0:
        return np.arange(len(vectors)) // most
    cells, count = np.empty(len(vectors), np.int64), 0
    for members in np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1]):
        inside = _cut(vectors[members], most, seed)
        cells[members], count = count + inside, count + int(inside.max()) + 1
    return cells


def _prepare(vectors: NDArray[np.float32], centre: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """(n, K) as compared: unnormalised, or of unit length after subtracting `centre` (K,); a zero vector stays zero."""
    if centre is None:
        return vectors
    moved = vectors - centre
    length = np.linalg.norm(moved, axis=1, keepdims=True)  # (n, 1)
    result: NDArray[np.float32] = moved / np.maximum(length, np.finfo(np.float32).tiny)
    return result
