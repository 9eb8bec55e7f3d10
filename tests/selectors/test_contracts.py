"""What holds for every selector in the table on any pool: exact, accountable, repeatable, blind to the pool's order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runs import make_table
from vlmsift.selectors import SELECTORS, Random, Selector, Top, choose

CASES: list[Selector] = [
    Top("loss", balance="none"),
    Top("loss", "lowest", "source"),
    Top("loss", "middle", "answer", min_group=2),
    Top("loss", "highest", "clusters", vector="states", clusters=3),
    Top("loss", "band", "auto", low="0%", vector="states"),
    Top("states_free", "highest", "auto", vector="states"),
    Random(),
]


def test_every_selector_is_under_contract() -> None:
    assert {type(case) for case in CASES} == set(SELECTORS.values())
    assert all(name == selector.name for name, selector in SELECTORS.items())


@st.composite
def pools(draw: st.DrawFn) -> pa.Table:
    """2 to 40 rows: ties, nulls, errors, text-only rows, sources and answers, two-dimensional states."""
    count = draw(st.integers(2, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    loss = rng.integers(0, 5, count).astype(float)
    loss[rng.random(count) < 0.1] = np.nan
    states = rng.integers(0, 3, (count, 2)).astype(float)
    return make_table(
        {"loss": loss, "states_free": rng.normal(size=count), "states": states},
        id=[f"id {row}" for row in rng.permutation(count)],
        images=rng.integers(0, 3, count).astype(np.int32),
        source=[["a", "b", None][row] for row in rng.integers(0, 3, count)],
        answer_key=[["yes", "no", None][row] for row in rng.integers(0, 3, count)],
        reason=["broken" if bad else None for bad in rng.random(count) < 0.1],
    )


def usable(table: pa.Table, selector: Selector) -> int:
    """Rows that may be chosen, by the rules of `choose` written once more: no error, and the signal or no image."""
    return sum(
        row["reason"] is None and (row["images"] == 0 or all(row[name] is not None for name in selector.columns))
        for row in table.to_pylist()
    )


@pytest.mark.parametrize("selector", CASES, ids=repr)
@settings(deadline=None, max_examples=30)
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
