"""A choice among more rows than can be compared with each other: in random parts, then among what these chose.

In: candidates, a budget, and who chooses among few. Out: a Choice. Source: GreeDi (Mirzasoleiman et al., "Distributed
Submodular Maximization", NeurIPS 2013), with a shortlist of twice the budget where it gives each part the whole budget.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vlmsift.choosing.candidates import Candidates, Choice
from vlmsift.choosing.quota import split
from vlmsift.choosing.words import Words, either, joined, moved

AHEAD = 2  # rows on the shortlist for each one that is kept


def in_parts(candidates: Candidates, budget: int, most: int, choose: Callable[[Candidates, int], Choice]) -> Choice:
    """`choose` among random parts of at most `most` of the N candidates, then among all that the parts chose.

    Where a shortlist of `AHEAD` times the budget would be longer than `most`, the parts keep their shares of the budget
    and nothing is merged: then the kept rows are ranked by the turn in which their parts took them. Only one part's
    vectors are held at a time.
    """
    places = np.array_split(np.arange(len(candidates)), -(-len(candidates) // most))  # random: so is their order
    sizes = np.array([len(part) for part in places])
    merge = AHEAD * budget <= most
    quotas = split(min(AHEAD * budget, len(candidates)) if merge else budget, sizes, sizes)
    choices = [
        choose(candidates.take(part, candidates.stratum), int(few)) for part, few in zip(places, quotas, strict=True)
    ]
    listed = [part[choice.kept] for part, choice in zip(places, choices, strict=True)]  # best first, of each part
    reasons, groups = (
        _one_after_another([getattr(one, name) for one in choices], sizes) for name in ("reasons", "groups")
    )
    details = {"parts": len(places), "shortlisted": int(quotas.sum()) if merge else 0}
    if not merge:
        turns = np.concatenate([np.arange(len(part)) for part in listed])
        kept = np.concatenate(listed)[np.argsort(turns, kind="stable")]
        return Choice(kept, groups, joined("in its part: ", reasons), details)
    short = np.sort(np.concatenate(listed))  # in the candidates' order
    last = choose(candidates.take(short, candidates.stratum), budget)
    place = np.full(len(candidates), -1)  # on the shortlist
    place[short] = np.arange(len(short))
    at = np.maximum(place, 0)
    told = either(place >= 0, joined("shortlisted: ", moved(last.reasons, at)), joined("in its part: ", reasons))
    return Choice(
        short[last.kept], either(place >= 0, moved(last.groups, at), groups), told, {**last.details, **details}
    )


def _one_after_another(parts: list[Words], sizes: NDArray[np.int64]) -> Words:
    """The words of the first part, then those of the second, and so on."""
    ends = np.cumsum(sizes)

    def make(at: NDArray[np.integer[Any]]) -> Any:
        which = np.searchsorted(ends, at, side="right")
        found, where = [pa.array([], pa.string())], [np.zeros(0, np.int64)]
        for number in np.unique(which).tolist():
            mine = np.flatnonzero(which == number)
            found.append(parts[number].take(pa.array(at[mine] - (ends[number] - sizes[number]))))
            where.append(mine)
        return pa.concat_arrays(found).take(pa.array(np.argsort(np.concatenate(where))))

    return Words(int(ends[-1]), make)
