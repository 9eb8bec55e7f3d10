"""What every selector has in common: who is ruled out and why, strata, exact budgets, and the record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from tests.sample_runs import make_run, make_table
from vlmsift.errors import UsageError
from vlmsift.selecting import select
from vlmsift.selectors import Candidates, Choice, Mixture, Selector, Top

NAN = float("nan")
PLAIN = Top("loss", "highest", "none")


def test_each_row_is_kept_or_has_its_reason(tmp_path: Path) -> None:
    run = make_run(
        tmp_path,
        {"loss": [3, NAN, 9, NAN, 5, 1], "gain": [1, 1, -1, 1, 1, 1]},
        reason=[None, "no answer", None, None, None, None],
    )
    chosen = select(run, PLAIN, 2, where="gain > 0")
    assert chosen.ids == ("s4", "s0")
    assert dict(chosen.dropped) == {
        "s1": "no answer",
        "s2": "not (gain > 0)",
        "s3": "loss is undefined",
        "s5": "rank 3 of 3 in group 'images', the group keeps 2",
    }


def test_the_record_tells_how_to_make_it_again(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"loss": [3, NAN, 9, 4]}, images=[1, 1, 1, 1])
    made_by = dict(select(run, Top("loss", "lowest"), "50%", where="loss < 8", seed=3).made_by)
    assert set(made_by.pop("versions")) == {"vlmsift", "numpy", "pyarrow", "scikit-learn"}
    assert made_by == {
        "selector": "top",
        "by": "loss",
        "pick": "lowest",
        "balance": "auto",
        "low": None,
        "high": None,
        "clusters": None,
        "vector": "hidden_mean",
        "min_group": 10,
        "ceiling": None,
        "keep": "50%",
        "budget": 2,
        "rows": 4,
        "where": "loss < 8",
        "text_only": "same-rate",
        "seed": 3,
        "ruled_out": {"not (loss < 8)": 2},
        "strata": [
            {"stratum": "images", "selector": "top", "rows": 2, "keeps": 2, "balance": "source", "groups": 1},
        ],
        "signals": run.signals_hash(),
        "spoiled": None,
        "answers_moved": None,
    }


def test_the_door_takes_a_run_its_folder_or_its_table_and_a_selector_or_its_word(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"loss": np.arange(10)})
    chosen = select(run, PLAIN, keep=0.2)
    assert (chosen.ids, chosen.run, chosen.made_by["keep"]) == (("s9", "s8"), run, 0.2)
    for same in (select(str(run.folder), PLAIN, "20%"), select(run.table(), "top:by=loss,balance=none", 2)):
        assert same.decisions.equals(chosen.decisions)


def test_by_default_the_highest_delta_is_kept_in_balance() -> None:
    answers = ["yes"] * 20 + ["no"] * 20
    chosen = select(make_table({"delta_attnmask": np.arange(40)}, answer_key=answers))
    assert sorted(chosen.ids) == sorted(f"s{row}" for row in (16, 17, 18, 19, 36, 37, 38, 39))
    assert chosen.made_by["strata"][0]["balance"] == "answer"


def pool_with_text(text: list[float]) -> pa.Table:
    """20 rows with images and loss 0 ... 19, and text-only ones after them."""
    return make_table({"loss": [*range(20), *text]}, images=[1] * 20 + [0] * len(text))


def test_text_only_rows_without_the_signal_are_drawn_at_the_same_rate() -> None:
    table = pool_with_text([NAN] * 10)
    chosen = select(table, PLAIN, "20%")
    assert chosen.ids[:4] == ("s19", "s18", "s17", "s16")
    assert all(key in {f"s{row}" for row in range(20, 30)} for key in chosen.ids[4:])
    assert len(chosen.ids) == 6
    drawn = {key for seed in range(30) for key in select(table, PLAIN, "20%", seed=seed).ids[4:]}
    assert drawn == {f"s{row}" for row in range(20, 30)}
    assert [stratum["selector"] for stratum in chosen.made_by["strata"]] == ["top", "random"]
    assert list(chosen.dropped.values())[-1].endswith("of 10 in group 'text-only', the group keeps 2")


def test_text_only_rows_with_the_signal_are_ranked_among_themselves() -> None:
    chosen = select(pool_with_text([30, NAN, 50, 40, NAN]), PLAIN, 10)
    assert chosen.ids[:10] == ("s19", "s18", "s17", "s16", "s15", "s14", "s13", "s12", *chosen.ids[8:])
    assert chosen.ids[8] == "s22"
    assert chosen.ids[9] in ("s21", "s24")


@pytest.mark.parametrize(("text_only", "of_text"), [("same-rate", 2), ("keep", 10), ("drop", 0)])
def test_text_only_policies_spend_the_same_budget(text_only: str, of_text: int) -> None:
    chosen = select(pool_with_text([NAN] * 5 + [1.0] * 5), PLAIN, 12 if of_text == 10 else 6, text_only=text_only)
    assert sum(int(key[1:]) >= 20 for key in chosen.ids) == of_text
    assert len(chosen.ids) == chosen.made_by["budget"]
    if text_only == "drop":
        assert chosen.dropped["s20"] == chosen.dropped["s29"] == "text-only, and text_only='drop'"


def test_a_pool_of_text_alone() -> None:
    table = make_table({"loss": [NAN] * 6}, images=[0] * 6)
    assert len(select(table, PLAIN, "50%").ids) == 3
    assert len(select(table, PLAIN, 6, text_only="keep").ids) == 6
    assert select(make_table({"loss": [1, 3, 2]}, images=[0] * 3), PLAIN, 1).ids == ("s1",)


@pytest.mark.parametrize(
    ("table", "how", "message"),
    [
        (make_table({"loss": [NAN] * 4}), {"keep": 1}, r"only 0 of 4 .*\(4 loss is undefined\)"),
        (make_table({"loss": [1, NAN, 2, 3]}, reason=["bad", None, None, None]), {"keep": "75%", "where": "loss < 3"},
         r"budget is 3 rows, but only 1 of 4 rows can be chosen \(1 error rows, 2 not \(loss < 3\)\)"),
        (pool_with_text([NAN] * 5), {"keep": 21, "text_only": "drop"}, "only 20 of 25 .*5 text-only"),
        (pool_with_text([NAN] * 5), {"keep": 4, "text_only": "keep"}, "keeps all 5 text-only rows, but"),
        (pool_with_text([]), {"keep": 4, "text_only": "some"}, "text_only='some' cannot be meant; give one of same-"),
        (pool_with_text([]), {"keep": 4, "seed": 2**32}, "seed=4294967296 cannot be meant"),
        (pool_with_text([]), {"keep": "101%"}, "keep='101%'"),
        (pool_with_text([]), {"keep": 1, "where": "lost > 1"}, "where='lost > 1' is not a condition"),
        (pool_with_text([])[:0], {"keep": 1}, "no rows"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_in_numbers(table: pa.Table, how: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        select(table, PLAIN, **how)


@dataclass(frozen=True)
class Positive(Selector):
    """Judges: what is above 0 stays."""

    name: ClassVar[str] = "positive"

    @property
    def columns(self) -> tuple[str, ...]:
        return ("loss",)

    def check_clean(self) -> None:
        pass

    def survivors(self, candidates: Candidates) -> int:
        return int(np.sum(candidates.number("loss") > 0))

    def __call__(self, candidates: Candidates, budget: int) -> Choice:
        return Top("loss", "highest", "none")(candidates, budget)


@pytest.mark.parametrize(
    ("text_only", "of_text"),
    [("same-rate", ["s4", "s6", "s7"]), ("keep", ["s4", "s5", "s6", "s7"]), ("drop", [])],
)
def test_clean_keeps_each_stratum_s_survivors(text_only: str, of_text: list[str]) -> None:
    loss = [1, -1, 2, -2, 3, -3, NAN, NAN]  # the last four are text-only, two without the signal
    table = make_table({"loss": loss}, images=[1] * 4 + [0] * 4)
    chosen = select(table, Positive(), "clean", text_only=text_only)
    assert sorted(chosen.ids) == ["s0", "s2", *of_text]
    assert (chosen.made_by["keep"], chosen.made_by["budget"]) == ("clean", 2 + len(of_text))
    assert sum(stratum["keeps"] for stratum in chosen.made_by["strata"]) == 2 + len(of_text)
    assert len(chosen.dropped) == 6 - len(of_text)


def test_clean_obeys_what_rules_rows_out() -> None:
    table = make_table({"loss": [5, NAN, 1, 3]}, reason=["bad", None, None, None])
    assert select(table, Positive(), "clean", where="loss < 3").ids == ("s2",)
    with pytest.raises(UsageError, match=r"keep='clean' has nothing to choose from: only 0 of 4 .*1 error rows"):
        select(table, Positive(), "clean", where="loss < 0")


def test_rows_that_are_partly_defined_are_the_selector_s_to_take() -> None:
    table = make_table({"entropy_profile": [[1, NAN], [NAN, NAN], [1, 2]]})
    chosen = select(table, Mixture(), "clean")
    assert sorted(chosen.ids) == ["s0", "s2"]
    assert dict(chosen.dropped) == {"s1": "entropy_profile is undefined"}


@dataclass(frozen=True)
class Broken(Selector):
    places: tuple[int, ...]
    name: ClassVar[str] = "broken"

    def __call__(self, candidates: Candidates, budget: int) -> Choice:
        words = pa.array(["x"] * len(candidates))
        return Choice(np.array(self.places), words, words, {})


@pytest.mark.parametrize("places", [(0,), (0, 0), (0, 1, 2)])
def test_a_selector_that_misses_the_budget_is_caught(places: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError, match="'broken' kept"):
        select(make_table({"loss": [1, 2, 3]}), Broken(places), 2)
    assert select(make_table({"loss": [1, 2, 3]}), Broken((2, 0)), 2).made_by["places"] == (2, 0)
