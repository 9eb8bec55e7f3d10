"""The rule for ids: stable, unique, literal names kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmsift.pools.ids import own_id, text_of, unique_ids


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a b", "a b"),
        (7, "7"),
        (12345678901234567890, "12345678901234567890"),
        (1.5, "1.5"),
        (True, "true"),
        ([1, {"ä": None}], '[1,{"ä":null}]'),
        ("", None),
        (None, None),
        ("\ud800x", "\\ud800x"),
    ],
)
def test_a_value_becomes_text(value: object, text: str | None) -> None:
    assert text_of(value) == text


def test_the_first_field_that_is_present_counts() -> None:
    assert own_id({"uid": "u", "question_id": 3, "id": "i"}) == "i"
    assert own_id({"uid": "u", "question_id": 0, "id": None}) == "0"
    assert own_id({"uid": "u", "id": ""}) == "u"
    assert own_id({}) is None


def test_missing_and_repeated_ids_are_numbered() -> None:
    assert unique_ids(["a", None, "a", "a"]) == ["a", "row-1", "a#2", "a#3"]


def test_a_literal_name_is_never_given_to_another_row() -> None:
    assert unique_ids(["a", "a", "a#2", "a"]) == ["a", "a#3", "a#2", "a#4"]
    assert unique_ids(["a", "a#2", "a#2", "a"]) == ["a", "a#2", "a#2#2", "a#3"]
    assert unique_ids([None, "row-0", "row-0"]) == ["row-0#2", "row-0", "row-0#3"]


names = st.one_of(st.none(), st.sampled_from(["a", "b", "a#2", "a#3", "a#2#2", "row-0", "row-1", "row-1#2"]), st.text())


@given(st.lists(names, max_size=12))
def test_ids_are_unique_and_literal_names_stay(given: list[str | None]) -> None:
    ids = unique_ids(given)
    assert len(set(ids)) == len(ids) == len(given)
    assert ids == unique_ids(given)
    for name in given:
        if name is not None:
            assert ids[given.index(name)] == name


@given(st.lists(names, max_size=8), st.lists(st.none(), max_size=4))
def test_rows_added_at_the_end_rename_nobody(given: list[str | None], more: list[None]) -> None:
    assert unique_ids([*given, *more])[: len(given)] == unique_ids(given)
