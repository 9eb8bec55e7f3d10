"""Groups: who belongs together, and which rule "auto" falls on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sample_runs import make_run, make_table
from tests.selectors.parts import candidates, of_table
from vlmsift.choosing import run_columns
from vlmsift.choosing.candidates import Candidates
from vlmsift.choosing.forms import forms
from vlmsift.choosing.groups import OTHER, Groups, by_answer, by_clusters, by_form, by_source, group, one_group
from vlmsift.choosing.run_columns import open_columns

NAN = float("nan")


def named(groups: Groups) -> list[str]:
    return [groups.names[code] for code in groups.codes]


def test_one_group_is_named_by_its_stratum() -> None:
    assert named(one_group(candidates({"x": [1, 2]}))) == ["images", "images"]


def test_by_source_sorted_by_name_with_the_nameless_last() -> None:
    groups = by_source(candidates({"x": [1, 2, 3, 4]}, source=["vqa", None, "caption", "vqa"]))
    assert groups.names == ["caption", "vqa", "(no source)"]
    assert named(groups) == ["vqa", "(no source)", "caption", "vqa"]


def test_an_answer_is_a_group_where_its_source_repeats_it() -> None:
    source = ["a", "a", "a", "a", "b", "b", None, None]
    answer = ["yes", "yes", "no", None, "yes", "no", "no", "no"]
    groups = by_answer(candidates({"x": range(8)}, source=source, answer_key=answer), min_group=2)
    assert named(groups) == [
        "a / yes", "a / yes", "a / other answers", "a / other answers",
        "b / other answers", "b / other answers", "no", "no",
    ]  # fmt: skip
    assert groups.names == ["a / yes", "a / other answers", "b / other answers", "no"]
    assert groups.details == {"balance": "answer", "repeated": 0.5}


def test_an_answer_needs_ten_by_default() -> None:
    rows = candidates({"x": range(19)}, answer_key=["yes"] * 10 + ["no"] * 9)
    assert by_answer(rows).names == ["yes", "other answers"]


def test_rows_without_a_vector_are_a_group() -> None:
    rows = candidates({"states": [[0, 1], [NAN, NAN], [0, 1], [1, 0], [1, 0]]})
    groups = by_clusters(rows, "states", 2)
    assert groups.names == ["cluster 0", "cluster 1", "no states"]
    assert named(groups)[1] == "no states"
    assert groups.codes[0] == groups.codes[2] != groups.codes[3] == groups.codes[4]
    nothing = by_clusters(candidates({"states": [[NAN, NAN]]}), "states")
    assert nothing.names == ["no states"]


@pytest.mark.parametrize(
    ("repeats", "vector", "rule"),
    [(5, "states", "answer"), (4, "states", "clusters"), (5, "absent", "answer"), (4, "absent", "source")],
)
def test_auto_takes_answers_where_half_repeat_then_clusters_then_source(repeats: int, vector: str, rule: str) -> None:
    answers: list[Any] = ["yes"] * repeats + [None] * (10 - repeats)
    rows = candidates({"states": np.eye(10)}, answer_key=answers)
    groups = group(rows, "auto", min_group=2, vector=vector, clusters=None)
    assert groups.details["balance"] == rule


@pytest.mark.parametrize("rule", ["answer", "source", "clusters", "none"])
def test_a_rule_asked_for_is_the_rule_taken(rule: str) -> None:
    rows = candidates({"states": np.eye(10)})
    groups = group(rows, rule, min_group=2, vector="states", clusters=None)
    assert groups.details["balance"] == rule


def asked(questions: list[str | None], answers: list[str | None], source: list[str | None] | None = None) -> Candidates:
    fixed: dict[str, Any] = {"question": questions, "answer_key": answers}
    fixed |= {} if source is None else {"source": source}
    table = make_table({"loss": np.zeros(len(answers))}, **fixed)
    return of_table(table)


def test_a_form_is_the_question_without_its_rare_words() -> None:
    things = ["cat", "dog", "cow", "fox", "owl", "bat", "rat", "hen", "ant", "bee", "eel"]
    questions: list[str | None] = [f"Is there a {thing}?".lower() for thing in things]
    questions += [f"is there no {thing} {thing}!" for thing in things] + [None]
    codes, names = forms(asked(questions, ["yes"] * 23))
    assert names == ["", "is there a *", "is there no *"]
    assert codes.tolist() == [1] * 11 + [2] * 11 + [0]
    # what is rare in one source may be the usual thing in another
    codes, names = forms(asked(questions, ["yes"] * 23, [f"s{row}" for row in range(23)]))
    assert len(names) == 23


def test_small_groups_of_a_form_join_their_answer_and_then_their_source() -> None:
    questions: list[str | None] = ["is it a"] * 12 + ["was it b"] * 13
    answers: list[str | None] = ["yes"] * 10 + ["no"] * 2 + ["yes"] * 9 + ["no", "no", None, "maybe"]
    groups = by_form(asked(questions, answers), min_group=3)
    found = {name: int(np.sum(groups.codes == place)) for place, name in enumerate(groups.names)}
    assert found == {"is it a / yes": 10, "was it b / yes": 9, "no": 4, OTHER: 2}
    assert groups.details == {"balance": "form", "repeated": 23 / 25}


def test_runs_from_before_have_no_questions_and_fall_back_on_answers() -> None:
    answers: list[str | None] = ["yes", "no"] * 10
    groups = by_form(asked([None] * 20, answers), min_group=3)
    assert sorted(groups.names) == ["no", "yes"]
    assert np.array_equal(groups.codes, by_answer(asked([None] * 20, answers), 3).codes)


def test_clusters_of_a_column_too_large_to_be_held_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    states = rng.integers(0, 4, (60, 3)).astype(np.float32)
    states[[3, 20, 21, 59]] = np.nan
    run = make_run(tmp_path, {"states": states}, part_size=7)
    places = rng.permutation(60)[:50]
    found = []
    for most in (10**9, 0):
        monkeypatch.setattr(run_columns, "WHOLE", most)
        monkeypatch.setattr("vlmsift.choosing.groups.CHUNK", 5)
        columns = open_columns(run, ["states"])
        assert columns.in_pieces("states") == (most == 0)
        rows = Candidates(columns, "images", 0, places)
        np.testing.assert_array_equal(rows.vector("states"), states[places])
        assert rows.defined("states").tolist() == np.isfinite(states[places]).all(axis=1).tolist()
        found.append(by_clusters(rows, "states", 4))
    assert found[0].codes.tolist() == found[1].codes.tolist()
    assert found[0].names == found[1].names == [*(f"cluster {code}" for code in range(4)), "no states"]
