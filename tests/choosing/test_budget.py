"""`parse_keep`: what is meant, and what cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from vlmsift.choosing.budget import parse_keep
from vlmsift.errors import UsageError


@pytest.mark.parametrize(
    ("keep", "total", "rows"),
    [
        ("20%", 10, 2),
        ("25%", 10, 2),
        ("100%", 7, 7),
        ("12.5 %", 16, 2),
        (".5%", 1000, 5),
        ("29%", 100, 29),  # 0.29 * 100 is 28.999... in floating point
        ("0.01%", 50, 1),
        (7, 7, 7),
        ("5", 7, 5),
        (" 5 ", 7, 5),
    ],
)
def test_shares_and_counts(keep: Any, total: int, rows: int) -> None:
    assert parse_keep(keep, total) == rows


@pytest.mark.parametrize(
    "keep",
    [
        "0%",
        "-5%",
        "101%",
        "100.01%",
        "0",
        0,
        -3,
        "-3",
        8,
        "8",
        0.2,
        5.0,
        True,
        None,
        "",
        "%",
        "7 samples",
        "1e1%",
        "nan%",
    ],
)
def test_anything_else_is_refused_with_the_value_and_the_cure(keep: Any) -> None:
    with pytest.raises(UsageError) as caught:
        parse_keep(keep, 7)
    assert f"keep={keep!r}" in str(caught.value)
    assert "'20%' or a count from 1 to 7" in str(caught.value)


def test_a_fraction_could_mean_either() -> None:
    with pytest.raises(UsageError, match="a share or a count"):
        parse_keep(0.2, 7)  # type: ignore[arg-type]


def test_an_empty_run_has_no_budget() -> None:
    with pytest.raises(UsageError, match="no rows"):
        parse_keep("20%", 0)
