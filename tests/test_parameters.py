"""Fields and changes as words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from vlmsift.errors import UsageError
from vlmsift.parameters import changes, fields_of, one_of


@dataclass
class Thing:
    depth: float | int = 0.5
    share: float = 0.1
    kind: Literal["a", "b"] = "a"
    on: bool = False
    count: int = 3
    low: float | str | None = None
    most: int | None = None


def test_fields_get_their_types():
    found = fields_of(Thing, "thing", "depth=-1, share=1,kind=b,on=TRUE,count=4")
    assert found == {"depth": -1, "share": 1.0, "kind": "b", "on": True, "count": 4}
    assert type(found["share"]) is float
    assert type(found["depth"]) is int
    assert fields_of(Thing, "thing", "") == {}


@pytest.mark.parametrize(
    ("text", "low"),
    [("30%", "30%"), ("0.5", 0.5), ("3", 3.0), ("-1e-3", -0.001), ("None", None), ("all", "all"), ("'3'", "3")],
)
def test_a_field_of_numbers_or_text_takes_both(text, low):
    found = fields_of(Thing, "thing", f"low={text}")["low"]
    assert found == low
    assert type(found) is type(low)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("size=3", "thing has no field 'size'"),
        ("depth", r"in 'depth'\); it has count, depth, kind, low"),
        ("kind=c", "kind='c' is not one of a, b"),
        ("count=1.5", "count='1.5' is not int"),
        ("share=x", "share='x' is not float"),
        ("on=1", "on='1' is not bool"),
        ("count=True", "count='True' is not int"),
        ("low=True", "low='True' is not float or str or None"),
        ("most=many", "most='many' is not int or None"),
    ],
)
def test_what_cannot_be_meant_is_quoted(text, told):
    with pytest.raises(UsageError, match=told):
        fields_of(Thing, "thing", text)


def test_changes_are_literals_or_text():
    found = changes(["epochs=3", "learning_rate = 1e-5", "train=['text', 'vision']", "schedule=linear", "lora=None"])
    assert found == {
        "epochs": 3,
        "learning_rate": 1e-5,
        "train": ["text", "vision"],
        "schedule": "linear",
        "lora": None,
    }
    for word in ("epochs", "=3", "a b=3"):
        with pytest.raises(UsageError, match="write field=value"):
            changes([word])


def test_one_of_the_known_words():
    one_of("thing", "kind", "a", ("a", "b"))
    one_of("thing", "kind", "b", {"a": 1, "b": 2})
    for wrong in ("c", "", None, ["a"]):
        with pytest.raises(UsageError) as told:
            one_of("thing", "kind", wrong, (word for word in ("a", "b")))
        assert str(told.value) == f"thing: kind={wrong!r} is unknown. Give one of: a, b."
