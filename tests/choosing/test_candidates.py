"""What a selector is handed: numbers, vectors, and an order that depends on ids and seed alone."""

from __future__ import annotations

import numpy as np
import pytest

from tests.selectors.parts import candidates
from vlmsift.choosing.candidates import Candidates, Selector
from vlmsift.errors import UsageError
from vlmsift.selectors import Coincide, Random, Top

NAN = float("nan")


def test_numbers_keep_their_precision_and_lack_what_is_null() -> None:
    rows = candidates({"loss": [0.1, NAN, np.inf]}, answer_tokens=[1, None, 3])
    assert rows.number("loss").dtype == np.float32
    np.testing.assert_array_equal(rows.number("answer_tokens"), [1, NAN, 3])
    assert rows.defined("loss").tolist() == [True, False, False]
    with pytest.raises(UsageError, match="'id' holds string"):
        rows.number("id")


def test_taken_rows_take_their_vectors_along() -> None:
    rows = candidates({"states": [[1, 1], [2, 2], [3, NAN]]}).take(np.array([2, 0]), "text-only")
    assert len(rows) == 2
    assert rows.stratum == "text-only"
    assert rows.ids(np.arange(2)).to_pylist() == ["s2", "s0"]
    np.testing.assert_array_equal(rows.vector("states"), [[3, NAN], [1, 1]])
    assert rows.defined("states").tolist() == [False, True]
    with pytest.raises(UsageError, match=r"lacks the vector signal 'spectra' .*has: states.*a run of its own"):
        rows.vector("spectra")


def test_a_scalar_is_no_vector() -> None:
    rows = candidates({"loss": [1], "states": [[1, 1]]})
    with pytest.raises(UsageError, match=r"'loss' is one number per sample, a vector is wanted .*has: states"):
        rows.vector("loss")


def test_partly_defined_is_one_number_at_least() -> None:
    rows = candidates({"states": [[1, NAN], [NAN, NAN], [1, 2], [np.inf, 1]], "loss": [1, NAN, 1, 1]})
    assert rows.defined("states").tolist() == [False, False, True, False]
    assert rows.defined("states", partly=True).tolist() == [True, False, True, True]
    assert rows.defined("loss", partly=True).tolist() == [True, False, True, True]


def test_work_is_done_once_for_each_worker_and_each_set_of_rows() -> None:
    rows, calls = candidates({"loss": [1, 2]}), []

    def work(given: Candidates) -> int:
        calls.append(len(given))
        return len(calls)

    assert [rows.once(work), rows.once(work)] == [1, 1]
    assert rows.take(np.array([0]), "images").once(work) == 2
    assert rows.once(len) == 2
    assert calls == [2, 1]


def test_columns_are_renamed_in_the_fields_that_name_them() -> None:
    top = Top("loss", "lowest", vector="states")
    assert top.with_columns({"loss": "gain", "lowest": "highest"}) == Top("gain", "lowest", vector="states")
    assert top.with_columns({"states": "loss", "loss": "states"}) == Top("states", "lowest", vector="loss")
    assert Coincide(clusters=3).with_columns({"concept_states": "c2"}) == Coincide("c2", clusters=3)
    assert Random().with_columns({"random": "x"}) == Random()


def test_a_bare_selector_chooses_nothing() -> None:
    rows = candidates({"loss": [1]})
    assert Selector().columns == ()
    assert Selector().screen(rows) == []
    with pytest.raises(NotImplementedError):
        Selector()(rows, 1)
    with pytest.raises(UsageError, match="top ranks, it does not judge"):
        Top().survivors(rows)
