"""Groups that each keep their share of the budget, so that no kind of sample dies out. In: Candidates. Out: Groups.

Why: the plain top of a score can drop every yes/no question of a pool, and balance over sources alone can collapse the
answers inside one. Balance over answers or clusters is therefore the default ("auto").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vlmsift.choosing.candidates import Candidates
from vlmsift.choosing.clusters import CHUNK, fit_k_means, sizes
from vlmsift.choosing.columns import Codes
from vlmsift.choosing.forms import RARE, forms

Balance = Literal["auto", "answer", "form", "source", "clusters", "none"]
NO_SOURCE = "(no source)"
OTHER = "other answers"


class Groups(NamedTuple):
    """G groups of N candidates, none empty."""

    codes: NDArray[np.integer[Any]]  # (N,), 0 to G - 1
    names: list[str]  # G
    details: Mapping[str, Any]  # for `made_by`


def one_group(candidates: Candidates) -> Groups:
    """All candidates together."""
    return Groups(np.zeros(len(candidates), np.int32), [candidates.stratum], {"balance": "none"})


def by_source(candidates: Candidates) -> Groups:
    """By the column `source`; rows without one form a group."""
    codes, names = candidates.coded("source")
    return _compact(codes, [*names, NO_SOURCE], {"balance": "source"})


def by_answer(candidates: Candidates, min_group: int = 10) -> Groups:
    """By (source, answer_key). An answer that occurs fewer than `min_group` times in its source, or is not short, joins
    the open group of that source. `details["repeated"]` is the share of rows outside the open groups."""
    pairs, place, sources, answers = _pairs(candidates)
    opened = len(answers)  # the code of the open group, and of null
    counts = np.bincount(place, minlength=len(pairs))  # (P,)
    origin, answer = np.divmod(pairs, opened + 1)
    answer = np.where(counts >= min_group, answer, opened)  # (P,)
    used, joined = np.unique(origin * (opened + 1) + answer, return_inverse=True)
    labels = [*answers, OTHER]
    titles = [f"{name} / " for name in sources] + [""]
    names = [titles[pair // (opened + 1)] + labels[pair % (opened + 1)] for pair in used.tolist()]
    repeated = float(np.sum(counts[answer < opened]) / len(place)) if len(place) else float("nan")
    return Groups(joined.astype(np.int32)[place], names, {"balance": "answer", "repeated": repeated})


def by_form(candidates: Candidates, min_group: int = 10, rare: float = RARE) -> Groups:
    """By (source, form of the question, answer), see `forms`. Of these, groups of fewer than `min_group` rows join that
    of their (source, answer), and where that is small too, the open one of their source."""
    pairs, pair, sources, answers = _pairs(candidates)
    form, named = forms(candidates, rare)
    triples, triple = distinct(paired(pair, form, len(named)))  # (T,), (N,)
    sizes = np.bincount(triple, minlength=len(triples))  # (T,)
    of, asked = np.divmod(triples, max(len(named), 1))
    pair_sizes = np.bincount(pair, minlength=len(pairs))[of]
    origin, answer = np.divmod(pairs[of], len(answers) + 1)  # (T,) each
    closed = answer < len(answers)
    level = np.where((sizes >= min_group) & closed, 0, np.where((pair_sizes >= min_group) & closed, 1, 2))
    keys = np.stack([level, origin, np.where(level < 2, answer, -1), np.where(level < 1, asked, -1)])  # (4, T)
    used, codes = np.unique(keys, axis=1, return_inverse=True)
    names = []
    for place, source, said, question in used.T.tolist():
        title = f"{sources[source]} / " if source < len(sources) else ""
        about = f"{named[question]} / " if question >= 0 and named[question] else ""
        names.append(title + about + (answers[said] if place < 2 else OTHER))
    repeated = float(np.sum(sizes[level < 2]) / len(pair)) if len(pair) else float("nan")
    return Groups(codes.ravel().astype(np.int32)[triple], names, {"balance": "form", "repeated": repeated})


def _pairs(candidates: Candidates) -> tuple[NDArray[np.int64], Codes, list[str], list[str]]:
    """The different (source, answer) pairs, as source * (answers + 1) + answer, ascending; (N,) which one each row
    has; and the names of both. Null is one beyond the last name."""
    source, sources = candidates.coded("source")
    answer, answers = candidates.coded("answer_key")
    pairs, place = distinct(paired(source, answer, len(answers) + 1))
    return pairs, place, sources, answers


def paired(first: NDArray[np.integer[Any]], second: NDArray[np.integer[Any]], width: int) -> NDArray[Any]:
    """(N,) one number for each pair of codes, `first` * `width` + `second`, made in place: N may be millions."""
    small = (int(first.max(initial=0)) + 1) * width < 2**31
    pairs = first.astype(np.int32 if small else np.int64)
    pairs *= width
    pairs += second
    return pairs


def distinct(codes: NDArray[np.integer[Any]]) -> tuple[NDArray[np.int64], Codes]:
    """The different ones of `codes` (N,), ascending, and (N,) the place of each: `np.unique`, without a sort of N."""
    encoded = pa.array(codes).dictionary_encode()
    values, inverse = np.unique(encoded.dictionary.to_numpy(), return_inverse=True)
    return values.astype(np.int64), inverse.astype(np.int32)[encoded.indices.to_numpy()]


def by_clusters(candidates: Candidates, vector: str, clusters: int | None = None) -> Groups:
    """By k-means on a vector signal (`clusters.k_means`); rows where it is undefined form a group.

    Fitted on the first of the candidates, which come in random order; the others are assigned as their pieces of the
    run are read, so that of a large run only the fitted ones are held.
    """
    defined = candidates.defined(vector)  # (N,)
    first = np.flatnonzero(defined)  # (n,)
    codes = np.full(len(candidates), -1, np.int32)
    if len(first):
        wanted, fitted = sizes(len(first), clusters)
        nearest = fit_k_means(candidates.take(first[:fitted], "fitted").vector(vector), wanted, candidates.seed)
        for places, piece in candidates.vector_pieces(vector, first, CHUNK):
            codes[places] = nearest(piece)
    used, packed = distinct(codes)
    names = [f"cluster {code}" for code in range(int(np.sum(used >= 0)))]
    codes = np.where(packed - int(used[0] < 0) < 0, len(names), packed - int(used[0] < 0))
    details = {"balance": "clusters", "clusters_found": len(names)}
    return _compact(codes, [*names, f"no {vector}"], details)


def group(candidates: Candidates, balance: Balance, *, min_group: int, vector: str, clusters: int | None) -> Groups:
    """The groups that a word asks for. "auto" is by answer, where at least half of the rows have a repeated short
    answer; else by clusters, where the run has the signal `vector`; else by source."""
    if balance == "form":
        return by_form(candidates, min_group)
    if balance in ("auto", "answer"):
        answers = by_answer(candidates, min_group)
        if balance == "answer" or answers.details["repeated"] >= 0.5:
            return answers
        balance = "clusters" if vector in candidates.vectors else "source"
    if balance == "clusters":
        return by_clusters(candidates, vector, clusters)
    return by_source(candidates) if balance == "source" else one_group(candidates)


def _compact(codes: NDArray[np.integer[Any]], names: list[str], details: Mapping[str, Any]) -> Groups:
    """Without the groups that nobody is in."""
    used, packed = distinct(codes)
    return Groups(packed, [names[code] for code in used.tolist()], details)
