"""Groups: who belongs together, and which rule "auto" falls on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.selectors.parts import candidates
from vlmsift.choosing.groups import Groups, by_answer, by_clusters, by_source, group, one_group

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
