"""What holds for every selector in the table on any pool: exact, accountable, repeatable, blind to the pool's order."""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runs import make_table
from vlmsift.selectors import (
    SELECTORS,
    Coincide,
    FacilityLocation,
    KCenter,
    Mixture,
    Selector,
    SemDeDup,
    Top,
    Trajectories,
    choose,
)

DEFAULTS: list[Selector] = [selector() for selector in SELECTORS.values()]
"""Every entry of the table as it comes: a new one is under contract by its line there."""

WIDTHS = {name: 1 if name == getattr(one, "by", None) else 4 for one in DEFAULTS for name in one.columns}
"""The columns that the entries ask for by default, and how wide they are here."""

CASES: list[Selector] = [
    *DEFAULTS,
    Top("loss", balance="none"),
    Top("loss", "lowest", "source"),
    Top("loss", "middle", "answer", min_group=2),
    Top("loss", "highest", "clusters", vector="states", clusters=3),
    Top("loss", "band", "auto", low="0%", vector="states"),
    Top("states_free", "highest", "auto", vector="states"),
    Trajectories("path", "random", clusters=50, balance="source"),
    Trajectories("path", clusters=3, scale=True),
    Coincide("path", clusters=3, transfer="both", bandwidth=0.5),
    SemDeDup("path", keep_first="easy", eps=0.1),
    Mixture("halves", gate="released"),
    FacilityLocation("states", neighbours=3),
    FacilityLocation("path", whole=10),
    KCenter("states", "random"),
    KCenter("path", whole=10),
]


def test_every_selector_is_under_its_name() -> None:
    assert all(name == selector.name for name, selector in SELECTORS.items())


@st.composite
def pools(draw: st.DrawFn) -> pa.Table:
    """1 to 40 rows: ties, nulls, errors, text-only rows, sources and answers, vectors that repeat, lack or split."""
    count = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    loss = rng.integers(0, 5, count).astype(float)
    loss[rng.random(count) < 0.1] = np.nan
    states = rng.integers(0, 3, (count, 2)).astype(float)
    path = rng.normal(size=(count, 3)).cumsum(axis=1)
    path[rng.random(count) < 0.1] = np.nan
    halves = np.where(rng.random((count, 1)) < 0.5, 1, 9) + rng.normal(size=(count, 2))
    defaults = {name: rng.integers(0, 3, (count, width)).astype(float) for name, width in WIDTHS.items()}
    for values in defaults.values():
        values[rng.random(count) < 0.1] = np.nan
    free = rng.normal(size=count)
    return make_table(
        {"loss": loss, "states_free": free, "states": states, "path": path, "halves": halves, **shaped(defaults)},
        id=[f"id {row}" for row in rng.permutation(count)],
        images=rng.integers(0, 3, count).astype(np.int32),
        source=[["a", "b", None][row] for row in rng.integers(0, 3, count)],
        answer_key=[["yes", "no", None][row] for row in rng.integers(0, 3, count)],
        reason=["broken" if bad else None for bad in rng.random(count) < 0.1],
    )


def shaped(columns: dict[str, Any]) -> dict[str, Any]:
    """Columns of width 1 as numbers."""
    return {name: values[:, 0] if values.shape[1] == 1 else values for name, values in columns.items()}


def usable(table: pa.Table, selector: Selector) -> int:
    """Rows that may be chosen, by the rules of `choose` written once more: no error, and the signal or no image."""

    def known(value: Any) -> bool:
        return None not in value if isinstance(value, list) else value is not None

    return sum(
        row["reason"] is None and (row["images"] == 0 or all(known(row[name]) for name in selector.columns))
        for row in table.to_pylist()
    )


@pytest.mark.parametrize("selector", CASES, ids=repr)
@settings(deadline=None, max_examples=8)
@given(table=pools(), data=st.data())
def test_contract(selector: Selector, table: pa.Table, data: Any) -> None:
    most = usable(table, selector)
    if most == 0:
        return
    budget, seed = data.draw(st.integers(1, most)), data.draw(st.integers(0, 9))
    chosen = choose(table, selector, budget, seed=seed)
    # exactly the budget, each row once, with a reason where dropped
    ids = table["id"].to_pylist()
    assert len(chosen.ids) == budget == len(set(chosen.ids))
    assert sorted([*chosen.ids, *chosen.dropped]) == sorted(ids)
    assert all(chosen.dropped.values())
    # the file's view says the same
    rows = chosen.decisions.to_pylist()
    assert [row["id"] for row in rows] == ids
    assert tuple(row["id"] for row in sorted(rows, key=lambda row: row["rank"] or 0) if row["kept"]) == chosen.ids
    assert all(row["kept"] == (row["reason"] is None) == (row["rank"] is not None) for row in rows)
    # again, and with the pool in another order
    mixed = table.take(np.random.default_rng(budget).permutation(len(ids)))
    mixed = mixed.set_column(0, "index", pa.array(range(len(ids))))
    for same in (choose(table, selector, budget, seed=seed), choose(mixed, selector, budget, seed=seed)):
        assert same.ids == chosen.ids
        assert dict(same.dropped) == dict(chosen.dropped)
        assert same.made_by == chosen.made_by


@pytest.mark.parametrize("selector", CASES, ids=repr)
@pytest.mark.parametrize("count", [1, 2, 25])
def test_equal_samples_and_any_budget(selector: Selector, count: int) -> None:
    """One sample, and samples that nothing tells apart: every budget is met, and chance decides."""
    equal = {"loss": 1.0, "states_free": 2.0, "states": [3.0, 4.0], "path": [1.0, 2.0, 4.0], "halves": [5.0, 6.0]}
    defaults = shaped({name: np.ones((count, width)) for name, width in WIDTHS.items()})
    signals = {**{name: [value] * count for name, value in equal.items()}, **defaults}
    table = make_table(signals, answer_key=["yes"] * count)
    for budget in {1, count // 2 or 1, count}:
        assert len(choose(table, selector, budget).ids) == budget
    drawn = {choose(table, selector, 1, seed=seed).ids for seed in range(8)}
    assert count == 1 or len(drawn) > 1


@pytest.mark.parametrize("selector", CASES, ids=repr)
def test_the_record_and_the_parameters_are_plain(selector: Selector) -> None:
    """What goes into a file comes out again, and each field is told of where it is documented."""
    rng = np.random.default_rng(0)
    widths = {"loss": 1, "states_free": 1, "states": 2, "path": 3, "halves": 2, **WIDTHS}
    table = make_table(shaped({name: rng.normal(size=(12, width)) for name, width in widths.items()}))
    made_by = choose(table, selector, 5).made_by
    assert json.loads(json.dumps(made_by)) == made_by
    told = inspect.getdoc(type(selector))
    assert all(f"{field.name}" in str(told) for field in dataclasses.fields(selector))
