"""Words that are made late are those that would be made at once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from vlmsift.choosing.words import coded, either, joined, moved, same, shown

PLACES = np.array([2, 0, 2])


def test_words_are_made_of_codes_numbers_and_texts() -> None:
    rank = joined("rank ", shown(np.array([3, 1, 2])), " of ", coded(np.array([1, 0, 1]), ["a", "b"]))
    assert len(rank) == 3
    assert rank.to_pylist() == ["rank 3 of b", "rank 1 of a", "rank 2 of b"]
    assert (
        rank.take(PLACES).to_pylist()
        == rank.take(pa.array(PLACES)).to_pylist()
        == [rank.to_pylist()[at] for at in PLACES]
    )
    mask = np.array([True, False, False])
    assert either(mask, rank, "no").to_pylist() == ["rank 3 of b", "no", "no"]
    assert either(mask, "yes", pa.array(["x", "y", "z"])).take(PLACES).to_pylist() == ["z", "yes", "z"]
    assert moved(rank, PLACES).to_pylist() == ["rank 2 of b", "rank 3 of b", "rank 2 of b"]
    assert same("so", 2).to_pylist() == ["so", "so"]


def test_numbers_are_rounded_in_their_own_precision_or_exactly() -> None:
    values = np.array([0.12345, 2.5], np.float32)
    assert shown(values).to_pylist() == ["0.12345", "2.5"]
    assert shown(values, 4).to_pylist() == [str(float(np.round(values[0], 4))), "2.5"]
    assert shown(values, 4, exact=True).to_pylist() == ["0.1235", "2.5"]


def test_nothing_is_made_before_it_is_asked_for() -> None:
    values = np.array([1, 2])
    words = joined("n = ", shown(values))
    values[0] = 9
    assert words.to_pylist() == ["n = 9", "n = 2"]
