"""The table's arithmetic against cells computed by hand."""

from __future__ import annotations

from typing import Any

import pytest

from vlmsift.experiment.account import account
from vlmsift.experiment.table import COLUMNS, Key, Result, Row, as_table, build_rows
from vlmsift.tables import as_markdown


def result(method: str, seed: int, scores: tuple[float | None, ...], seconds: float = 10.0, **changes: Any) -> Result:
    """A training with tasks a, b, ...; a method other than full is at 20 %."""
    share = 1.0 if method == "full" else 0.2
    key = Key(
        changes.pop("origin", "trained"),
        changes.pop("schedule", "epochs"),
        changes.pop("budget", f"{share:.0%}"),
        method,
        changes.pop("augmentation", "none"),
    )
    values: dict[str, Any] = {
        "share": share,
        "plain": key.augmentation == "none",
        "samples": 100 * share,
        "steps": 50 * share,
        "training_seconds": seconds,
        "selection_seconds": 0.0,
        "diverged": False,
        "scores": dict(zip("abcd", scores, strict=False)),
        "losses": dict.fromkeys("abcd"[: len(scores)], 1.0),
        **changes,
    }
    return Result(key, seed, **values)


FULL = [result("full", 0, (0.8, 0.4), 100), result("full", 1, (0.6, 0.6), 140)]  # means 0.7 and 0.5, 120 s


def row_of(rows: list[Row], method: str, **where: Any) -> Row:
    (found,) = [row for row in rows if row["method"] == method and all(row[k] == v for k, v in where.items())]
    return found


def test_means_deviations_relative_performance_and_cost_by_hand() -> None:
    mine = [
        result("mine", 0, (0.7, 0.25), 20, selection_seconds=40, losses={"a": 1.0, "b": 3.0}),
        result("mine", 1, (0.35, 0.5), 28, selection_seconds=44, losses={"a": 2.0, "b": 4.0}),
    ]
    rows, notes = build_rows([*FULL, *mine])
    assert notes == []
    row = row_of(rows, "mine")
    assert row["accuracy"] == pytest.approx((0.475 + 0.425) / 2)
    assert row["accuracy_std"] == pytest.approx(0.05 / 2**0.5)
    assert row["loss"] == pytest.approx((2 + 3) / 2)
    # seed 0: 100 x (0.7/0.7 + 0.25/0.5) / 2 = 75; seed 1: 100 x (0.35/0.7 + 0.5/0.5) / 2 = 75
    assert (row["relative"], row["relative_std"]) == (pytest.approx(75), pytest.approx(0, abs=1e-9))
    assert (row["training_seconds"], row["selection_seconds"]) == (24, 42)
    assert row["cost_ratio"] == pytest.approx(((20 + 40) / 120 + (28 + 44) / 120) / 2)
    assert (row["samples"], row["steps"], row["seeds"]) == (20, 10, 2)
    assert row["accuracy/a"] == pytest.approx(0.525)
    assert row["accuracy_std/b"] == pytest.approx(0.25 / 2**0.5)
    assert row["loss/b"] == 3.5
    full = row_of(rows, "full")
    assert full["relative"] == pytest.approx(100)
    assert full["relative_std"] == pytest.approx(abs((80 / 0.7 + 40 / 0.5) / 2 - (60 / 0.7 + 60 / 0.5) / 2) / 2**0.5)
    assert full["cost_ratio"] == pytest.approx(1)


def test_one_seed_has_no_deviation_and_without_full_there_is_no_ratio() -> None:
    (row,), _ = build_rows([result("mine", 0, (0.5, 0.5))])
    assert row["accuracy"] == 0.5
    assert [row[name] for name in ("accuracy_std", "relative", "cost_ratio", "above_random")] == [None] * 4


def test_a_task_that_the_full_pool_does_not_learn_has_no_ratio() -> None:
    rows, _ = build_rows([result("full", 0, (0.5, 0.0)), result("mine", 0, (0.5, 0.5))])
    assert row_of(rows, "mine")["relative"] is None


def test_unknown_seconds_make_no_cost() -> None:
    rows, _ = build_rows([*FULL, result("mine", 0, (0.5, 0.5), selection_seconds=None)])
    assert row_of(rows, "mine")["cost_ratio"] is None


RANDOM = [result("random", seed, (value, value)) for seed, value in enumerate((0.50, 0.52, 0.54, 0.56, 0.48))]


@pytest.mark.parametrize(("value", "above"), [(0.561, True), (0.56, False), (0.53, False)])
def test_the_band_is_the_random_seeds_and_its_end_the_highest(value: float, above: bool) -> None:
    rows, _ = build_rows([*FULL, *RANDOM, result("mine", 0, (value, value))])
    row = row_of(rows, "mine")
    assert row["random_mean"] == pytest.approx(0.52)
    assert row["random_std"] == pytest.approx((0.001) ** 0.5)  # squares 4 + 4 + 16 + 16 = 40 e-4 over 4
    assert (row["random_low"], row["random_high"]) == (pytest.approx(0.48), pytest.approx(0.56))
    assert row["above_random"] is above
    assert row_of(rows, "random")["above_random"] is None
    assert row_of(rows, "full")["random_mean"] is None  # no random draw at 100 %


def test_the_band_needs_five_good_seeds_of_the_same_budget_and_schedule_without_augmentation() -> None:
    mine = result("mine", 0, (0.9, 0.9))
    others = [
        result("random", 4, (0.1, 0.1), schedule="steps"),
        result("random", 4, (0.1, 0.1), budget="50%"),
        result("random", 4, (0.1, 0.1), augmentation="top"),
        result("random", 4, (0.1, 0.1), diverged=True),
    ]
    for other in others:
        rows, _ = build_rows([*RANDOM[:4], other, mine])
        row = row_of(rows, "mine")
        assert row["above_random"] is None
        assert row["random_mean"] == pytest.approx(0.53)
    rows, _ = build_rows([*RANDOM, result("random", 0, (0.9, 0.9), augmentation="top")])
    assert row_of(rows, "random", augmentation="top")["above_random"] is True


def test_what_diverged_or_lacks_a_task_is_told_and_in_no_mean() -> None:
    rows, notes = build_rows(
        [
            *FULL,
            result("mine", 0, (0.6, 0.6)),
            result("mine", 1, (0.1, 0.1), diverged=True),
            result("mine", 2, (0.1,)),
            result("mine", 3, (0.1, None)),
        ]
    )
    row = row_of(rows, "mine")
    assert (row["accuracy"], row["seeds"], row["diverged"]) == (0.6, 1, 1)
    assert notes == [
        "diverged, in no mean: epochs 20% mine none seed 1",
        "without a score of b, in no mean: epochs 20% mine none seed 2",
        "without a score of b, in no mean: epochs 20% mine none seed 3",
    ]


def test_a_group_of_which_all_diverged_or_failed_has_a_row() -> None:
    gone = Key("trained", "epochs", "5%", "gone", "none")
    rows, _ = build_rows([*FULL, result("mine", 1, (0.1, 0.1), diverged=True)], [gone, gone])
    assert (row_of(rows, "mine")["diverged"], row_of(rows, "mine")["accuracy"]) == (1, None)
    assert (row_of(rows, "gone")["failed"], row_of(rows, "gone")["seeds"]) == (2, 0)
    assert build_rows([], [gone])[0][0]["failed"] == 1


def test_imported_runs_have_tasks_and_references_of_their_own() -> None:
    theirs = [
        result("full", 0, (0.5, 1500.0, 0.5), origin="imported"),
        result("mine", 0, (0.5, 1200.0, 0.25), origin="imported"),
    ]
    rows, notes = build_rows([*FULL, result("mine", 0, (0.7, 0.5)), *theirs])
    assert notes == []
    own, other = (row_of(rows, "mine", origin=origin) for origin in ("trained", "imported"))
    assert own["relative"] == pytest.approx(100)
    assert other["relative"] == pytest.approx((100 + 80 + 50) / 3)
    assert (own["accuracy"], other["accuracy"]) == (pytest.approx(0.6), None)  # 1,200 is no share


def test_parquet_and_markdown_say_the_same() -> None:
    rows, notes = build_rows([*FULL, *RANDOM, result("mi|ne", 0, (0.9, 0.9), diverged=True)])
    table = as_table(rows)
    assert table.column_names[: len(COLUMNS)] == list(COLUMNS)
    assert table.to_pylist() == rows
    text = as_markdown(account(rows, notes))
    assert "All means are over these 2 tasks: a, b." in text
    assert "| random | 20% | epochs | none | 5 | 20 | 10 | 0.520 ± 0.032 | 1.000 |" in text
    assert "| mi\\|ne | 20% | epochs | none | 0 (1 diverged) |" in text
    assert "- diverged, in no mean: epochs 20% mi|ne none seed 0" in text
    assert all(f"`{name}`" in text for name in COLUMNS)


def test_a_table_without_rows_has_its_columns() -> None:
    assert as_table([]).column_names == list(COLUMNS)
    assert as_markdown(account([], ["nothing"])).startswith("# Comparison")
