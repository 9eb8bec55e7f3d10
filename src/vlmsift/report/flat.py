"""A map of vectors. In: (n, K). Out: (n, 2), and how they were laid flat: UMAP where it is installed, PCA elsewhere."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np

from vlmsift.report.columns import Floats


def flatten(vectors: Floats, seed: int) -> tuple[Floats, str]:
    """Points (n, 2) of vectors (n, K), n at least 3, and words for the way."""
    if find_spec("umap") is not None:
        import umap

        near = min(15, len(vectors) - 1)
        model = umap.UMAP(n_neighbors=near, metric="cosine", random_state=seed, n_jobs=1)
        told = "UMAP, in which near rows are alike and far distances say little"
        return np.asarray(model.fit_transform(vectors)), told
    centred = (vectors - vectors.mean(0)).astype(np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)  # (K, K), of ascending variance
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.where(np.abs(axes).max(0) == axes.max(0), 1, -1)  # the largest entry is positive: one sign
    points = centred @ axes  # (n, 2)
    if points.shape[1] < 2:
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    share = np.square(points).sum() / max(np.square(centred).sum(), 1e-12)
    return points, f"the two directions of most variance (PCA), which hold {share:.0%} of it"
