"""`parse_keep`: what is meant, and what cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
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
        (0.2, 10, 2),
        (np.float64(0.29), 100, 29),
        (".2", 10, 2),
        (1.0, 7, 7),  # everything
        ("1.0", 7, 7),
        (1, 7, 1),  # one sample
        ("1", 7, 1),
        (1e-05, 7, 1),
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
        0.0,
        1.01,
        5.0,
        float("nan"),
        float("inf"),
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
    assert "Give a share such as 0.2 or '20%', or a count from 1 to 7" in str(caught.value)


def test_an_empty_run_has_no_budget() -> None:
    with pytest.raises(UsageError, match="no rows"):
        parse_keep("20%", 0)
