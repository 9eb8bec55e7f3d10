"""Fields and changes as words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec
import numpy as np
import pytest

from vlmsift.errors import UsageError
from vlmsift.parameters import (
    Count,
    Parameters,
    Share,
    check_value,
    describe,
    make,
    parse_changes,
    parse_fields,
    write_word,
)


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
    found = parse_fields(Thing, "thing", "depth=-1, share=1,kind=b,on=TRUE,count=4")
    assert found == {"depth": -1, "share": 1.0, "kind": "b", "on": True, "count": 4}
    assert type(found["share"]) is float
    assert type(found["depth"]) is int
    assert parse_fields(Thing, "thing", "") == {}


@pytest.mark.parametrize(
    ("text", "low"),
    [("30%", "30%"), ("0.5", 0.5), ("3", 3.0), ("-1e-3", -0.001), ("None", None), ("all", "all"), ("'3'", "3")],
)
def test_a_field_of_numbers_or_text_takes_both(text, low):
    found = parse_fields(Thing, "thing", f"low={text}")["low"]
    assert found == low
    assert type(found) is type(low)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("size=3", "thing has no field 'size'"),
        ("depth", r"in 'depth'\); it has count, depth, kind, low"),
        ("kind=c", "thing: kind='c' cannot be meant; give one of a, b"),
        ("count=1.5", "count=1.5 cannot be meant; give a whole number"),
        ("share=x", "share='x' cannot be meant; give a number"),
        ("on=1", "on=1 cannot be meant; give true or false"),
        ("count=True", "count=True cannot be meant; give a whole number"),
        ("low=True", "low=True cannot be meant; give a number or text or none"),
        ("most=many", "most='many' cannot be meant; give a whole number or none"),
    ],
)
def test_what_cannot_be_meant_is_quoted(text, told):
    with pytest.raises(UsageError, match=told):
        parse_fields(Thing, "thing", text)


def test_a_number_of_numpy_is_a_number():
    assert check_value("thing", "count", np.int64(3), Count) == 3
    assert check_value("thing", "share", np.float64(0.5), Share) == 0.5
    with pytest.raises(UsageError, match=r"count=.*0.* cannot be meant"):
        check_value("thing", "count", np.int64(0), Count)


def test_a_word_tells_what_differs_and_is_read_again():
    changed = Thing(kind="b", low="30%", on=True)
    word = write_word("thing", changed, Thing())
    assert word == "thing:kind=b,on=True,low=30%"
    assert Thing(**parse_fields(Thing, "thing", word.partition(":")[2])) == changed
    assert write_word("thing", Thing(), Thing()) == "thing"


def test_changes_are_literals_or_text():
    found = parse_changes(
        ["epochs=3", "learning_rate = 1e-5", "train=['text', 'vision']", "schedule=linear", "lora=None"]
    )
    assert found == {
        "epochs": 3,
        "learning_rate": 1e-5,
        "train": ["text", "vision"],
        "schedule": "linear",
        "lora": None,
    }
    for word in ("epochs", "=3", "a b=3"):
        with pytest.raises(UsageError, match="write field=value"):
            parse_changes([word])


@dataclass(frozen=True)
class Checked(Parameters):
    share: Share = 0.5
    most: Count | None = None
    kinds: tuple[Literal["a", "b"], ...] = ("a",)
    thing: object = None


def test_an_object_is_checked_when_it_is_made():
    anything = object()
    made = Checked(share=1, most=3, kinds=["a", "b"], thing=anything)
    assert (made.share, type(made.share), made.most, made.kinds) == (1.0, float, 3, ("a", "b"))
    assert made.thing is anything
    for wrong, told in (
        ({"share": 0}, r"Checked: share=0 cannot be meant; give a number above 0 and at most 1"),
        ({"share": 1.5}, r"share=1\.5 cannot be meant"),
        ({"share": True}, "share=True"),
        ({"most": 0}, r"most=0 cannot be meant; give a whole number at least 1 or none"),
        ({"kinds": ["c"]}, r"kinds=\['c'\] cannot be meant; give a list of one of a, b"),
    ):
        with pytest.raises(UsageError, match=told):
            Checked(**wrong)


def test_a_mapping_names_known_keys_only():
    assert make(Checked, "the file", {"share": 0.25}) == Checked(0.25)
    with pytest.raises(UsageError, match="the file has no 'shares'; it has share, most, kinds, thing"):
        make(Checked, "the file", {"shares": 1})
    assert describe(object) == ""


@dataclass(frozen=True)
class Leaf(Parameters):
    name: Annotated[str, msgspec.Meta(pattern="^[a-z]+$", title="small letters")]
    count: Count = 1


@dataclass(frozen=True)
class Tree(Parameters):
    leaf: Leaf
    more: tuple[Leaf, ...] = ()
    other: Leaf | None = None
    words: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] | None = None
    free: dict[str, int] = field(default_factory=dict)


def test_mappings_within_mappings_and_short_forms_of_them():
    made = make(Tree, "the file", {"leaf": "a", "more": ["b", {"name": "c", "count": 2}], "words": "w", "other": None})
    assert made == Tree(Leaf("a"), (Leaf("b"), Leaf("c", 2)), None, ("w",))
    assert make(Tree, "the file", {"leaf": Leaf("a"), "more": {"name": "b"}}) == Tree(Leaf("a"), (Leaf("b"),))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"leaf": "A"}, "the file: leaf: name='A' cannot be meant; give small letters"),
        ({"more": ["a", {"count": 1}]}, "the file: more.1: 'name' is missing; add it"),
        ({"more": [{"name": "a", "size": 1}]}, "the file: more.0 has no 'size'; it has name, count"),
        (
            {"other": {"name": "a", "count": 0}},
            "the file: other: count=0 cannot be meant; give a whole number at least 1",
        ),
        ({"words": []}, r"the file: words=\(\) cannot be meant; give a list of text of at least 1 or none"),
        ({"words": [1]}, "the file: words.0=1 cannot be meant; give text"),
        ({"free": 3}, "the file: free=3 cannot be meant; give keys and values"),
    ],
)
def test_an_error_says_where_in_the_file(change, told):
    with pytest.raises(UsageError, match=f"^{told}"):
        make(Tree, "the file", {"leaf": "a", **change})
