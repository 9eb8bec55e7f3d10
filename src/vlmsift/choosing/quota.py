"""Quotas: how a budget falls to groups, and the choice of each group's best. In: sizes, badness. Out: a Choice.

The tool of every selector that works by groups: only the way to the groups, the badness and the quotas differ.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from vlmsift.choosing.candidates import Choice
from vlmsift.choosing.groups import Groups
from vlmsift.choosing.order import place_type
from vlmsift.choosing.words import Words, coded, joined

_RESOLUTION = 2**31  # steps of a weight; times 10^9 rows still an int64
_CHUNK = 2**20


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
    kept = np.flatnonzero(ranks < quotas.astype(ranks.dtype)[codes])
    kept = kept[np.argsort(badness[kept], kind="stable")]
    shares = zip(sizes, groups.names, quotas, strict=True)  # one ending for each group
    endings = [f" of {size} in group {name!r}, the group keeps {quota}" for size, name, quota in shares]
    places = Words(len(ranks), lambda at: pa.array(ranks[at] + 1))
    reasons = joined("rank ", places, coded(codes, endings))
    return Choice(kept, coded(codes, groups.names), reasons, {**groups.details, "groups": count})


def ranks_within(values: NDArray[np.floating[Any]], codes: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    """(N,) rank from 0 of each of `values` (N,), ascending, within its group; equal ones in the order given."""
    order = np.lexsort((values, codes))
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes))])  # (G + 1,)
    ranks = np.empty(len(codes), place_type(len(codes)))
    for start in range(0, len(order), _CHUNK):  # temporaries as long as a piece
        part = order[start : start + _CHUNK]
        ranks[part] = np.arange(start, start + len(part)) - starts[codes[part]]
    return ranks
