"""Quotas: how a budget falls to groups, and the choice of each group's best. In: sizes, badness. Out: a Choice.

The tool of every selector that works by groups: only the way to the groups, the badness and the quotas differ.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from vlmsift.choosing.candidates import Choice
from vlmsift.choosing.groups import Groups

_RESOLUTION = 2**31  # steps of a weight; times 10^9 rows still an int64


def split(budget: int, weights: ArrayLike, room: ArrayLike) -> NDArray[np.int64]:
    """(G,) whole quotas that add up to `budget`, in proportion to `weights` (G,), none above its `room` (G,).

    Largest remainders, ties to the earlier group. What a full group cannot take is split anew among the others; where
    only groups of weight 0 have room left, evenly among them. In whole numbers, so it is exact and the same everywhere.
    """
    space = np.asarray(room, np.int64).copy()
    shares = np.asarray(weights)  # (G,)
    if shares.dtype.kind == "f" and shares.size:
        shares = np.rint(shares / (shares.max() or 1.0) * _RESOLUTION)
    shares = shares.astype(np.int64)
    if not 0 <= budget <= space.sum():
        raise ValueError(f"a budget of {budget} does not fit groups of {space.sum()} rows")
    quotas = np.zeros(len(space), np.int64)
    while left := budget - int(quotas.sum()):
        weight = np.where(space > 0, shares, 0)
        if not weight.any():
            weight = (space > 0).astype(np.int64)
        whole, remainder = np.divmod(left * weight, weight.sum())
        given = np.minimum(whole, space)
        if given.sum() == whole.sum():  # nobody is full: the remainders decide about the last few
            ranked = np.argsort(-remainder, kind="stable")
            able = (weight > 0) & (space > given)
            given[ranked[able[ranked]][: left - int(given.sum())]] += 1
        quotas += given
        space -= given
    return quotas


def best_of_groups(badness: NDArray[np.floating[Any]], groups: Groups, quotas: NDArray[np.int64]) -> Choice:
    """Keep the `quotas[g]` rows of least `badness` (N,) of each group g; equal ones in the candidates' order.

    The kept rows come best first over all groups; a dropped row's reason gives its rank in its group.
    """
    codes, count = groups.codes, len(groups.names)
    sizes = np.bincount(codes, minlength=count)  # (G,)
    ranks = ranks_within(badness, codes)  # (N,)
    kept = np.flatnonzero(ranks < quotas[codes])
    kept = kept[np.argsort(badness[kept], kind="stable")]
    rows, names = pa.array(codes), pa.array(groups.names, pa.string())
    shares = zip(sizes, groups.names, quotas, strict=True)  # one ending for each group
    endings = pa.array([f" of {size} in group {name!r}, the group keeps {quota}" for size, name, quota in shares])
    places = pc.cast(pa.array(ranks + 1), pa.string())
    reasons = pc.binary_join_element_wise("rank ", places, endings.take(rows), "")
    return Choice(kept, names.take(rows), reasons, {**groups.details, "groups": count})


def ranks_within(values: NDArray[np.floating[Any]], codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) rank from 0 of each of `values` (N,), ascending, within its group; equal ones in the order given."""
    order = np.lexsort((values, codes))
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes))])  # (G + 1,)
    ranks = np.empty(len(codes), np.int64)
    ranks[order] = np.arange(len(codes)) - starts[codes[order]]
    return ranks
