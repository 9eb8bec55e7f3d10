"""What holds for every selector in the table on any pool: exact, accountable, repeatable, blind to the pool's order;
and what its word says is what it is."""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import Any, get_args, get_type_hints

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sample_runs import make_table
from vlmsift.choosing.selection import Selection
from vlmsift.errors import UsageError
from vlmsift.selecting import select
from vlmsift.selectors import (
    SELECTORS,
    Coincide,
    FacilityLocation,
    Judge,
    KCenter,
    Mixture,
    Random,
    Selector,
    SemDeDup,
    Then,
    Top,
    Trajectories,
    build_selector,
    selector_word,
)

DEFAULTS: list[Selector] = [selector() for selector in SELECTORS.values()]
"""Every entry of the table as it comes: a new one is under contract by its line there."""

NUMBERS = {getattr(one, field) for one in DEFAULTS for field in ("by", "also") if hasattr(one, field)}
WIDTHS = {name: 1 if name in NUMBERS else 4 for one in DEFAULTS for name in one.reads}
"""The columns that the entries ask for by default, and how wide they are here."""

ALL_WIDTHS = {"loss": 1, "states_free": 1, "states": 2, "path": 3, "halves": 2, **WIDTHS}

CASES: list[Selector] = [
    *DEFAULTS,
    Top("loss", balance="none"),
    Top("loss", "lowest", "source"),
    Top("loss", "middle", "answer", min_group=2),
    Top("loss", "highest", "clusters", vector="states", clusters=3),
    Top("loss", "band", "auto", low="0%", vector="states"),
    Top("states_free", "highest", "auto", vector="states"),
    Top("loss", "highest", "source", ceiling=2.0),
    Trajectories("path", "random", clusters=50, balance="source"),
    Trajectories("path", clusters=3, scale=True),
    Coincide("path", clusters=3, transfer="both", bandwidth=0.5),
    SemDeDup("path", keep_first="easy", eps=0.1),
    Mixture("halves", fewest=10),
    Mixture("halves", gate="released", fewest=10),
    FacilityLocation("states", neighbours=3),
    FacilityLocation("path", whole=10),
    KCenter("states", "random"),
    KCenter("path", whole=10),
    Judge(0.3, "loss", "states_free", balance="answer", min_group=2),
    Judge(0.9, "loss", weight=0, balance="form", guard=0),
    Then(Judge("auto", "loss", weight=0), Random()),
    Then(Judge(0.5, "loss", weight=0), FacilityLocation("states", neighbours=3)),
    Then(Judge(0.5, "loss", weight=0), Top("states_free", balance="source")),
]


JUDGES = [
    case for case in CASES if isinstance(case, (Random, Mixture, Judge, Then)) or getattr(case, "eps", None) is not None
]
"""Those that take keep="clean"; the others refuse it."""


@st.composite
def pools(draw: st.DrawFn) -> pa.Table:
    """1 to 40 rows: ties, nulls, errors, text-only rows, sources and answers, vectors that repeat, split, or lack all
    or a part of their numbers."""
    count = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    loss = rng.integers(0, 5, count).astype(float)
    loss[rng.random(count) < 0.1] = np.nan
    states = rng.integers(0, 3, (count, 2)).astype(float)
    path = rng.normal(size=(count, 3)).cumsum(axis=1)
    path[rng.random(count) < 0.1] = np.nan
    path[rng.random(path.shape) < 0.05] = np.nan
    halves = np.where(rng.random((count, 1)) < 0.5, 1, 9) + rng.normal(size=(count, 2))
    halves[rng.random(halves.shape) < 0.1] = np.nan
    defaults = {name: rng.integers(0, 3, (count, width)).astype(float) for name, width in WIDTHS.items()}
    for values in defaults.values():
        values[rng.random(count) < 0.1] = np.nan
        values[rng.random(values.shape) < 0.05] = np.nan
    free = rng.normal(size=count)
    return make_table(
        {"loss": loss, "states_free": free, "states": states, "path": path, "halves": halves, **shaped(defaults)},
        id=[f"id {row}" for row in rng.permutation(count)],
        images=rng.integers(0, 3, count).astype(np.int32),
        source=[["a", "b", None][row] for row in rng.integers(0, 3, count)],
        answer_key=[["yes", "no", None][row] for row in rng.integers(0, 3, count)],
        question=[["is there a cat", "is there no cat", "how many", None][row] for row in rng.integers(0, 4, count)],
        reason=["broken" if bad else None for bad in rng.random(count) < 0.1],
    )


def shaped(columns: dict[str, Any]) -> dict[str, Any]:
    """Columns of width 1 as numbers."""
    return {name: values[:, 0] if values.shape[1] == 1 else values for name, values in columns.items()}


def known(table: pa.Table, selector: Selector) -> dict[str, bool]:
    """Whether the selector's signals are defined, by id: all numbers of them, or some where that will do."""
    enough = any if selector.partly_defined else all

    def defined(value: Any) -> bool:
        return enough(number is not None for number in (value if isinstance(value, list) else [value]))

    return {row["id"]: all(defined(row[name]) for name in selector.columns) for row in table.to_pylist()}


def usable(table: pa.Table, selector: Selector) -> list[dict[str, Any]]:
    """Rows that may be chosen, by the rules of `choose` written once more: no error, and the signal or no image."""
    there = known(table, selector)
    return [row for row in table.to_pylist() if row["reason"] is None and (row["images"] == 0 or there[row["id"]])]


@pytest.mark.parametrize("selector", CASES, ids=repr)
@settings(deadline=None, max_examples=8)
@given(table=pools(), data=st.data())
def test_contract(selector: Selector, table: pa.Table, data: Any) -> None:
    most = len(usable(table, selector))
    if most == 0:
        return
    budget = data.draw(st.integers(1, most))
    assert len(held(table, selector, budget, seed=data.draw(st.integers(0, 9))).ids) == budget


@pytest.mark.parametrize("selector", JUDGES, ids=repr)
@settings(deadline=None, max_examples=8)
@given(table=pools(), text_only=st.sampled_from(["same-rate", "keep", "drop"]))
def test_contract_of_clean(selector: Selector, table: pa.Table, text_only: str) -> None:
    there = [row for row in usable(table, selector) if row["images"] or text_only != "drop"]
    if not there:
        with pytest.raises(UsageError, match="only 0 of"):
            select(table, selector, "clean", text_only=text_only)
        return
    chosen = held(table, selector, "clean", text_only=text_only)
    text = {row["id"] for row in there if row["images"] == 0}
    judged = known(table, selector)
    silent = {key for key in text if text_only == "keep" or not judged[key]}
    assert silent <= set(chosen.ids) <= {row["id"] for row in there}


@pytest.mark.parametrize("selector", [case for case in CASES if case not in JUDGES], ids=repr)
def test_clean_is_refused_by_who_does_not_judge(selector: Selector) -> None:
    with pytest.raises(UsageError, match="keep='clean' cannot be meant"):
        select(make_table({"loss": [1.0]}), selector, "clean")  # before a column is missed


def held(table: pa.Table, selector: Selector, keep: Any, **how: Any) -> Selection:
    """What was chosen, after it was held against all that does not depend on the selector."""
    chosen = select(table, selector, keep, **how)
    # exactly the budget, each row once, with a reason where dropped
    ids = table["id"].to_pylist()
    assert len(chosen.ids) == chosen.made_by["budget"] == len(set(chosen.ids))
    assert sorted([*chosen.ids, *chosen.dropped]) == sorted(ids)
    assert all(chosen.dropped.values())
    # the file's view says the same
    rows = chosen.decisions.to_pylist()
    assert [row["id"] for row in rows] == ids
    assert tuple(row["id"] for row in sorted(rows, key=lambda row: row["rank"] or 0) if row["kept"]) == chosen.ids
    assert all(row["kept"] == (row["reason"] is None) == (row["rank"] is not None) for row in rows)
    # again, and with the pool in another order
    mixed = table.take(np.random.default_rng(len(chosen.ids)).permutation(len(ids)))
    mixed = mixed.set_column(0, "index", pa.array(range(len(ids))))
    for same in (select(table, selector, keep, **how), select(mixed, selector, keep, **how)):
        assert same.ids == chosen.ids
        assert dict(same.dropped) == dict(chosen.dropped)
        assert same.made_by == chosen.made_by
    return chosen


@pytest.mark.parametrize("selector", CASES, ids=repr)
@pytest.mark.parametrize("count", [1, 2, 25])
def test_equal_samples_and_any_budget(selector: Selector, count: int) -> None:
    """One sample, and samples that nothing tells apart: every budget is met, and chance decides."""
    equal = {"loss": 1.0, "states_free": 2.0, "states": [3.0, 4.0], "path": [1.0, 2.0, 4.0], "halves": [5.0, 6.0]}
    defaults = shaped({name: np.ones((count, width)) for name, width in WIDTHS.items()})
    signals = {**{name: [value] * count for name, value in equal.items()}, **defaults}
    table = make_table(signals, answer_key=["yes"] * count)
    for budget in {1, count // 2 or 1, count}:
        assert len(select(table, selector, budget).ids) == budget
    drawn = {select(table, selector, 1, seed=seed).ids for seed in range(8)}
    assert count == 1 or len(drawn) > 1


def plain_pool(count: int, **fixed: Any) -> pa.Table:
    """Rows of random numbers in every column that a case asks for; those without an image have none of them."""
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=(count, width)) for name, width in ALL_WIDTHS.items()}
    for values in columns.values():
        values[np.equal(fixed.get("images", 1), 0)] = np.nan
    return make_table(shaped(columns), **fixed)


@pytest.mark.parametrize("selector", CASES, ids=repr)
def test_text_only_rows_are_kept_at_the_same_rate_all_or_not(selector: Selector) -> None:
    table = plain_pool(16, images=[1] * 12 + [0] * 4)
    for text_only, of_text in (("keep", 4), ("drop", 0), ("same-rate", 2)):
        ids = select(table, selector, 8, text_only=text_only).ids
        assert len(ids) == 8
        if selector.columns or text_only != "same-rate":  # a selector without columns draws from its one text stratum
            assert sum(int(key[1:]) >= 12 for key in ids) == of_text


@pytest.mark.parametrize("selector", [case for case in CASES if case.columns], ids=repr)
def test_a_column_of_nothing_is_told(selector: Selector) -> None:
    column = selector.columns[0]
    table = plain_pool(3)
    width = ALL_WIDTHS[column]
    empty = make_table(shaped({column: np.full((3, width), np.nan)}))[column]
    table = table.set_column(table.column_names.index(column), column, empty)
    for keep in (1, "100%"):
        with pytest.raises(UsageError, match=rf"only 0 of 3 rows can be chosen \(3 {column} is undefined\)"):
            select(table, selector, keep)


@pytest.mark.parametrize("selector", [case for case in CASES if hasattr(case, "clusters")], ids=repr)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_more_clusters_than_rows(selector: Selector, count: int) -> None:
    many = dataclasses.replace(selector, clusters=1000)
    for budget in range(1, count + 1):
        assert len(select(plain_pool(count), many, budget).ids) == budget


COUNTS = ("clusters", "min_group", "neighbours", "whole", "fewest")
NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
KINDS: dict[Any, st.SearchStrategy[Any]] = {
    str: NAMES,
    bool: st.booleans(),
    int: st.integers(1, 10**9),
    float: st.floats(1e-30, 2),
    type(None): st.none(),
}
OF_NAME = {
    "low": st.none() | st.floats(-9, 9) | st.sampled_from(["0%", "12.5%"]),
    "drop": st.just("auto") | st.floats(0, 0.999),
    "most": st.floats(0, 0.999),
    "unknown": st.floats(0, 0.999),
    "weight": st.floats(0, 1),
    "guard": st.floats(0, 1),
}
OF_NAME["fewest"] = st.integers(2, 10**9)
OF_NAME["high"] = OF_NAME["low"]


def values_of(name: str, options: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    """What a field may hold: `options` are the words of a Literal, or types."""
    if isinstance(options[0], str):
        return st.sampled_from(options)
    return OF_NAME[name] if name in OF_NAME else st.one_of([KINDS[option] for option in options])


@st.composite
def of_the_table(draw: st.DrawFn, cls: type[Selector]) -> Selector:
    """A selector with any fields that it takes."""
    given_fields = {}
    for name, hint in get_type_hints(cls).items():
        if name not in {field.name for field in dataclasses.fields(cls)}:
            continue
        given_fields[name] = draw(values_of(name, get_args(hint) or (hint,)))
    if cls is Top and given_fields["pick"] != "band":
        given_fields |= {"low": None, "high": None}
    if cls is Top and given_fields["pick"] != "highest":
        given_fields["ceiling"] = None
    if cls is Top and given_fields["pick"] == "band" and given_fields["low"] is given_fields["high"] is None:
        given_fields["low"] = "3%"
    return cls(**given_fields)


@pytest.mark.parametrize("cls", SELECTORS.values(), ids=str)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_a_word_builds_what_it_was_made_from(cls: type[Selector], data: Any) -> None:
    selector = data.draw(of_the_table(cls))
    again = build_selector(selector_word(selector))
    assert again == selector
    assert repr(again) == repr(selector)
    names = {column: f"{column}_2" for column in selector.reads}
    assert selector.with_columns(names).reads == tuple(f"{column}_2" for column in selector.reads)
    assert set(selector.columns) <= set(selector.reads)


@pytest.mark.parametrize("selector", DEFAULTS, ids=repr)
def test_a_field_takes_what_its_type_says(selector: Selector) -> None:
    for field in dataclasses.fields(selector):
        for wrong in ([], 0) if field.name in COUNTS else ([],):
            with pytest.raises(UsageError, match=rf"{selector.name}: {field.name}=.* cannot be meant; give "):
                dataclasses.replace(selector, **{field.name: wrong})


@pytest.mark.parametrize("selector", CASES, ids=repr)
def test_the_record_and_the_parameters_are_plain(selector: Selector) -> None:
    """What goes into a file comes out again, and each field is told of where it is documented."""
    made_by = select(plain_pool(12), selector, 5).made_by
    assert json.loads(json.dumps(made_by)) == made_by
    documented = str(inspect.getdoc(type(selector)))
    assert all(field.name in documented for field in dataclasses.fields(selector))
