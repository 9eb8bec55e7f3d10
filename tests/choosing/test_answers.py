"""Moves of P(answer | form of question) by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.sample_runs import make_table
from tests.selectors.parts import of_table
from vlmsift.choosing.answers import answers_moved
from vlmsift.choosing.candidates import Candidates
from vlmsift.selecting import select


def rows_of(questions: list[str | None], answers: list[str | None]) -> Candidates:
    table = make_table({"loss": np.zeros(len(answers))}, question=questions, answer_key=answers)
    return of_table(table)


def test_a_flip_inside_one_form_is_found_though_all_answers_together_keep_their_shares() -> None:
    questions = ["is there a cat"] * 100 + ["is there no cat"] * 100
    answers = ["yes"] * 80 + ["no"] * 20 + ["no"] * 80 + ["yes"] * 20
    kept = np.zeros(200, bool)
    kept[60:100] = kept[100:140] = kept[180:200] = True  # 20 yes, 20 no | 40 no, 20 yes
    found = answers_moved(rows_of(questions, answers), kept)
    assert found == {"form": "is there a cat", "answer": "yes", "before": 0.8, "after": 0.5, "rows": 100, "kept": 40}


def test_chance_few_rows_and_long_answers_say_nothing() -> None:
    rng = np.random.default_rng(0)
    answers: list[str | None] = [str(word) for word in rng.choice(["yes", "no"], 4000)]
    questions: list[str | None] = ["is it so"] * 4000
    assert all(answers_moved(rows_of(questions, answers), rng.random(4000) < 0.2) is None for _ in range(20))
    few = np.zeros(4000, bool)
    few[[place for place, word in enumerate(answers) if word == "yes"][:19]] = True
    assert answers_moved(rows_of(questions, answers), few) is None
    assert answers_moved(rows_of([None] * 5, [None] * 5), np.ones(5, bool)) is None


@pytest.mark.parametrize("balance", ["answer", "form"])
def test_a_selection_tells_of_it_and_balance_by_form_mends_it(balance: Any) -> None:
    """The highest scores of one form are its rare answer: balance over answers alone turns it over."""
    rng = np.random.default_rng(1)
    form = rng.random(2000) < 0.5  # "is there no"
    answer = np.where(rng.random(2000) < np.where(form, 0.3, 0.7), "yes", "no")
    score = rng.normal(size=2000) + 3 * (form & (answer == "yes")) + 3 * (~form & (answer == "no"))
    questions = ["is there no cat" if no else "is there a cat" for no in form]
    table = make_table({"loss": score}, question=questions, answer_key=answer.tolist())
    moved = select(table, f"top:by=loss,balance={balance}", "20%").made_by["answers_moved"]
    if balance == "form":
        assert moved is None
    else:
        assert abs(moved["after"] - moved["before"]) > 0.3
