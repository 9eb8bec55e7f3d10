"""`select`, and a new selector: one short class and one line in the table."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from tests.sample_runs import make_run, make_table
from vlmsift.choosing.groups import one_group
from vlmsift.choosing.quota import best_of_groups
from vlmsift.errors import UsageError
from vlmsift.selectors import (
    Candidates,
    Choice,
    Coincide,
    Random,
    Selector,
    SemDeDup,
    Top,
    Trajectories,
    build_selector,
    choose,
    select,
    selector_word,
)


def test_select_hands_every_argument_on(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"loss": np.arange(20), "spectra": np.eye(20)}, images=[1] * 18 + [0] * 2)
    chosen = select(
        run, "loss", 4, "band", "clusters", where="loss < 19", text_only="drop", seed=5, low=2, high="90%",
        clusters=3, vector="spectra", min_group=2,
    )  # fmt: skip
    top = Top("loss", "band", "clusters", 2, "90%", 3, "spectra", 2)
    expected = choose(run, top, 4, where="loss < 19", text_only="drop", seed=5)
    assert (chosen.ids, chosen.made_by) == (expected.ids, expected.made_by)


def test_select_balances_by_default() -> None:
    answers = ["yes"] * 20 + ["no"] * 20
    table = make_table({"delta_attnmask": np.arange(40)}, answer_key=answers)
    chosen = select(table)
    assert [answers[int(key[1:])] for key in chosen.ids].count("yes") == 4
    assert chosen.made_by["strata"][0]["balance"] == "answer"


@pytest.mark.parametrize(
    ("word", "selector"),
    [
        ("random", Random()),
        ("coincide:temperature=0.2", Coincide(temperature=0.2)),
        ("top:by=el2n,pick=lowest,balance=none", Top("el2n", "lowest", "none")),
        ("top:by=loss,pick=band,low=30%,high=0.5", Top("loss", "band", low="30%", high=0.5)),
        ("trajectories:inside=random,scale=True", Trajectories(inside="random", scale=True)),
        ("semdedup:clusters=7,eps=0.05", SemDeDup(clusters=7, eps=0.05)),
        ("top:balance=none,ceiling=1.0", Top(balance="none", ceiling=1)),
    ],
)
def test_words_and_selectors(word: str, selector: Selector) -> None:
    assert build_selector(word) == selector
    assert build_selector(selector_word(selector)) == selector


def test_a_word_tells_what_differs_from_the_defaults() -> None:
    assert selector_word(Top("loss", "band", low="5%")) == "top:by=loss,pick=band,low=5%"
    assert selector_word(Coincide()) == "coincide"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("best", "no selector 'best'; choose among top, random, trajectories, coincide"),
        ("", "no selector ''"),
        ("top:signal=loss", r"top has no field 'signal' \(in 'signal=loss'\); it has balance, by, ceiling"),
        ("random:share=1", "random has no field 'share' .*it has none"),
        ("trajectories:inside=best", "trajectories: inside='best' is not one of stable, random"),
        ("top:pick=best", "pick='best' is unknown"),
        ("semdedup:eps=little", "eps='little' is not float or None"),
    ],
)
def test_words_that_cannot_be_meant(word: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build_selector(word)


def test_a_selector_that_no_word_builds_is_told_of() -> None:
    for selector in (Top("loss", "band", low="3"), KCenter()):
        with pytest.raises(UsageError, match=r"no word builds|no selector 'k-center'"):
            selector_word(selector)


@dataclass(frozen=True)
class KCenter(Selector):
    """Farthest-first traversal of a vector signal, from the first candidate."""

    vector: str = "states"
    name: ClassVar[str] = "k-center"

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.vector,)

    def __call__(self, candidates: Candidates, budget: int) -> Choice:
        vectors = candidates.vector(self.vector)
        ranks, near = np.full(len(vectors), len(vectors), float), np.full(len(vectors), np.inf)
        for rank in range(budget):
            center = int(np.argmax(near))
            ranks[center] = rank
            near = np.minimum(near, np.linalg.norm(vectors - vectors[center], axis=1))
            near[center] = -1
        return best_of_groups(ranks, one_group(candidates), np.array([budget]))


def test_a_selector_over_vectors_is_a_few_lines() -> None:
    points = [[0, 0], [0.1, 0], [10, 0], [10.1, 0], [0, 10], [np.nan, 0]]
    chosen = choose(make_table({"states": points}), KCenter(), 3)
    assert {min(int(key[1:]) // 2, 2) for key in chosen.ids} == {0, 1, 2}
    assert chosen.dropped["s5"] == "states is undefined"
    assert chosen.decisions["value"].null_count == 6


def test_choosing_needs_no_torch() -> None:
    code = "import sys, vlmsift.selectors; print({'torch', 'sklearn', 'duckdb', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
