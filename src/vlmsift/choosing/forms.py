"""How questions are asked, whatever they are about: "is there a *". In: Candidates. Out: a form for each row.

Questions are mostly different ones, so they are read twice, a piece at a time, and never all held.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlmsift.choosing.candidates import Candidates
from vlmsift.choosing.columns import Codes
from vlmsift.choosing.order import place_type

RARE = 0.1  # share of a source's questions below which a word says what is asked about, not how
_WORD, _STARS = re.compile(r"\w+"), re.compile(r"\*( \*)+")


def forms(
    candidates: Candidates, rare: float = RARE, among: NDArray[np.bool_] | None = None
) -> tuple[Codes, list[str]]:
    """(N,) the form of each row's question, and the forms: the question with every word masked ("*") that fewer than
    the share `rare` of its source's questions have. What is asked about goes, how it is asked stays. No question is a
    form of its own, "". Where `among` (N,) is given, the others' form is not told, and stays 0."""
    totals, known = Counter[int](), defaultdict[int, Counter[str]](Counter)  # of each source
    for _, pairs, counts, _ in _asked(candidates, None):
        for (source, question), count in zip(pairs, counts, strict=True):
            totals[source] += count
            known[source].update(dict.fromkeys(_words(question), count))

    def shown(source: int, question: str | None) -> str:
        least, usual = rare * totals[source], known[source]
        return _STARS.sub("*", " ".join(word if usual[word] >= least else "*" for word in _words(question)))

    found: dict[str, int] = {}  # form -> a number
    form = np.zeros(len(candidates), np.int32)
    for rows, pairs, _, place in _asked(candidates, among):
        numbers = [found.setdefault(shown(*pair), len(found)) for pair in pairs]
        form[rows] = np.array(numbers, np.int32)[place]
    order = sorted(found)
    places = np.zeros(max(len(found), 1), np.int32)
    places[[found[one] for one in order]] = np.arange(len(order))
    return places[form], order


def _words(question: str | None) -> list[str]:
    return _WORD.findall(question or "")


def _asked(
    candidates: Candidates, among: NDArray[np.bool_] | None
) -> Iterator[tuple[NDArray[Any], list[tuple[int, str | None]], list[int], NDArray[Any]]]:
    """For each piece of the run: which n candidates lie in it; their different (source, question) pairs, and how often
    each occurs; (n,) which of the pairs each has."""
    columns, start = candidates.columns, 0
    kind = place_type(len(columns))
    holder = np.full(len(columns), -1, kind)  # row of the run -> candidate
    holder[candidates.rows] = np.arange(len(candidates), dtype=kind)
    if among is not None:
        holder[candidates.rows[~among]] = -1
    sources = columns.coded("source").codes
    for batch in columns.batches(["question"]):
        here = np.flatnonzero(holder[start : start + len(batch)] >= 0)  # (n,) in the piece
        encoded = batch["question"].dictionary_encode()
        texts = [*encoded.dictionary.to_pylist(), None]
        asked = encoded.indices.fill_null(len(texts) - 1).to_numpy()[here].astype(np.int64)
        pair = sources[start + here] * np.int64(len(texts)) + asked
        different, place, counts = np.unique(pair, return_inverse=True, return_counts=True)
        origin, question = np.divmod(different, len(texts))
        pairs = [(source, texts[one]) for source, one in zip(origin.tolist(), question.tolist(), strict=True)]
        yield holder[start + here], pairs, counts.tolist(), place
        start += len(batch)
