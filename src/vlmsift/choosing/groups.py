"""Groups that each keep their share of the budget, so that no kind of sample dies out. In: Candidates. Out: Groups.

Why: the plain top of a score can drop every yes/no question of a pool, and balance over sources alone can collapse the
answers inside one. Balance over answers or clusters is therefore the default ("auto").
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vlmsift.choosing.candidates import Candidates
from vlmsift.choosing.clusters import k_means

Balance = Literal["auto", "answer", "form", "source", "clusters", "none"]
NO_SOURCE = "(no source)"
OTHER = "other answers"
RARE = 0.1  # share of a source's questions below which a word says what is asked about, not how
_WORD, _STARS = re.compile(r"\w+"), re.compile(r"\*( \*)+")


class Groups(NamedTuple):
    """G groups of N candidates, none empty."""

    codes: NDArray[np.int64]  # (N,), 0 to G - 1
    names: list[str]  # G
    details: Mapping[str, Any]  # for `made_by`


def one_group(candidates: Candidates) -> Groups:
    """All candidates together."""
    return Groups(np.zeros(len(candidates), np.int64), [candidates.stratum], {"balance": "none"})


def by_source(candidates: Candidates) -> Groups:
    """By the column `source`; rows without one form a group."""
    codes, names = _codes(candidates.table["source"])
    return _compact(codes, [*names, NO_SOURCE], {"balance": "source"})


def by_answer(candidates: Candidates, min_group: int = 10) -> Groups:
    """By (source, answer_key). An answer that occurs fewer than `min_group` times in its source, or is not short, joins
    the open group of that source. `details["repeated"]` is the share of rows outside the open groups."""
    source, sources = _codes(candidates.table["source"])
    answer, answers = answer_codes(candidates)
    opened = len(answers)  # the code of the open group, and of null
    _, place, counts = np.unique(source * (opened + 1) + answer, return_inverse=True, return_counts=True)
    answer = np.where(counts[place] >= min_group, answer, opened)  # (N,)
    used, codes = np.unique(source * (opened + 1) + answer, return_inverse=True)
    labels = [*answers, OTHER]
    titles = [f"{name} / " for name in sources] + [""]
    names = [titles[pair // (opened + 1)] + labels[pair % (opened + 1)] for pair in used.tolist()]
    return Groups(codes, names, {"balance": "answer", "repeated": float(np.mean(answer < opened))})


def by_form(candidates: Candidates, min_group: int = 10, rare: float = RARE) -> Groups:
    """By (source, form of the question, answer), see `forms`. Of these, groups of fewer than `min_group` rows join that
    of their (source, answer), and where that is small too, the open one of their source."""
    source, sources = _codes(candidates.table["source"])
    answer, answers = answer_codes(candidates)
    form, named = forms(candidates, rare)
    pair = np.unique(source * (len(answers) + 1) + answer, return_inverse=True)[1]  # (N,)
    triple = np.unique(np.stack([pair, form]), axis=1, return_inverse=True)[1].ravel()  # (N,)
    large = [np.bincount(codes)[codes] >= min_group for codes in (triple, pair)]  # (N,) each
    closed = answer < len(answers)
    level = np.where(large[0] & closed, 0, np.where(large[1] & closed, 1, 2))  # (N,)
    keys = np.stack([level, source, np.where(level < 2, answer, -1), np.where(level < 1, form, -1)])  # (4, N)
    used, codes = np.unique(keys, axis=1, return_inverse=True)
    names = []
    for place, origin, said, asked in used.T.tolist():
        title = f"{sources[origin]} / " if origin < len(sources) else ""
        about = f"{named[asked]} / " if asked >= 0 and named[asked] else ""
        names.append(title + about + (answers[said] if place < 2 else OTHER))
    return Groups(codes.ravel(), names, {"balance": "form", "repeated": float(np.mean(level < 2))})


def forms(candidates: Candidates, rare: float = RARE) -> tuple[NDArray[np.int64], list[str]]:
    """(N,) the form of each row's question, and the forms: the question with every word masked ("*") that fewer than
    the share `rare` of its source's questions have. What is asked about goes, how it is asked stays. No question is a
    form of its own, ""."""
    source, _ = _codes(candidates.table["source"])
    question, texts = _codes(candidates.table["question"])
    pairs, place, counts = np.unique(
        source * (len(texts) + 1) + question, return_inverse=True, return_counts=True
    )  # distinct questions of each source
    origin, asked = np.divmod(pairs, len(texts) + 1)
    words = [_WORD.findall(texts[one]) if one < len(texts) else [] for one in asked.tolist()]
    totals, known = np.bincount(source), Counter[tuple[int, str]]()
    for where, mine, count in zip(origin.tolist(), words, counts.tolist(), strict=True):
        known.update(dict.fromkeys(((where, word) for word in set(mine)), count))
    shown = []
    for where, mine in zip(origin.tolist(), words, strict=True):
        least = rare * totals[where]
        shown.append(_STARS.sub("*", " ".join(word if known[where, word] >= least else "*" for word in mine)))
    named, form = np.unique(np.array(shown, object), return_inverse=True)
    return form[place], named.tolist()


def by_clusters(candidates: Candidates, vector: str, clusters: int | None = None) -> Groups:
    """By k-means on a vector signal (`clusters.k_means`); rows where it is undefined form a group."""
    vectors = candidates.vector(vector)  # (N, K)
    defined = np.isfinite(vectors).all(axis=1)  # (N,)
    codes = np.full(len(vectors), -1, np.int64)
    whole = vectors if defined.all() else vectors[defined]  # a copy only where it must be
    codes[defined] = k_means(whole, clusters, candidates.seed)
    names = [f"cluster {code}" for code in range(int(codes.max()) + 1)]
    details = {"balance": "clusters", "clusters_found": len(names)}
    return _compact(np.where(defined, codes, len(names)), [*names, f"no {vector}"], details)


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


def answer_codes(candidates: Candidates) -> tuple[NDArray[np.int64], list[str]]:
    """(N,) codes into the distinct short answers; a long one is one beyond the last."""
    return _codes(candidates.table["answer_key"])


def _codes(column: Any) -> tuple[NDArray[np.int64], list[str]]:
    """(N,) codes into the sorted distinct values; null is one beyond the last."""
    encoded = column.combine_chunks().dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    indices = encoded.indices.fill_null(len(order)).to_numpy()
    return np.append(places, len(order))[indices], encoded.dictionary.take(pa.array(order)).to_pylist()


def _compact(codes: NDArray[np.int64], names: list[str], details: Mapping[str, Any]) -> Groups:
    """Without the groups that nobody is in."""
    used, packed = np.unique(codes, return_inverse=True)
    return Groups(packed, [names[code] for code in used.tolist()], details)
