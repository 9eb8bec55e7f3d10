"""Selectors and their words, and a new one, made of two: one short class."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.sample_runs import make_table
from vlmsift.choosing.groups import by_source
from vlmsift.choosing.quota import ranks_within
from vlmsift.errors import UsageError
from vlmsift.parameters import Share
from vlmsift.selecting import select
from vlmsift.selectors import (
    Candidates,
    Cause,
    Choice,
    Coincide,
    Random,
    Selector,
    SemDeDup,
    Top,
    Trajectories,
    build_selector,
    selector_word,
)


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
    ("word", "message"),
    [
        ("best", "no selector 'best'; choose among top, random, trajectories, coincide"),
        ("", "no selector ''"),
        ("top:signal=loss", r"top has no field 'signal' \(in 'signal=loss'\); it has balance, by, ceiling"),
        ("random:share=1", "random has no field 'share' .*it has none"),
        ("trajectories:inside=best", "trajectories: inside='best' cannot be meant; give one of stable, random"),
        ("top:pick=best", "pick='best' cannot be meant"),
        ("semdedup:eps=little", "eps='little' cannot be meant; give a number at least 0 and at most 2 or none"),
    ],
)
def test_words_that_cannot_be_meant(word: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_selector(word)


def test_a_selector_that_no_word_builds_is_told_of() -> None:
    for selector in (Top("loss", "band", low="3"), Top("a,b"), JudgeThenCover()):
        with pytest.raises(UsageError, match="no word builds"):
            selector_word(selector)


@dataclass(frozen=True)
class JudgeThenCover(Selector):
    """Drops the `drop` lowest by a signal, but never a group's last row; another selector covers what is left."""

    by: str = "loss"
    drop: Share = 0.25
    cover: str = "k_center:vector=states"
    name: ClassVar[str] = "judge_then_cover"

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.by, *build_selector(self.cover).columns)

    def screen(self, candidates: Candidates) -> list[Cause]:
        values, groups = candidates.number(self.by), by_source(candidates)
        last = ranks_within(-values, groups.codes) == 0
        low = ranks_within(np.where(last, np.inf, values), np.zeros_like(groups.codes)) < self.drop * len(values)
        reasons = pc.binary_join_element_wise(f"judged: {self.by} = ", pc.cast(pa.array(values), pa.string()), "")
        return [Cause("judged", low & ~last, reasons)]

    def __call__(self, candidates: Candidates, budget: int) -> Choice:
        return build_selector(self.cover)(candidates, budget)


def test_a_selector_made_of_two_is_a_few_lines_and_its_reasons_tell_which_part_dropped() -> None:
    states = [[0, 0], [0.5, 0], [9, 0], [9.5, 0], [0, 8], [50, 50], [60, 60], [70, 70]]
    table = make_table({"loss": [3, 4, 5, 6, 7, 1, 2, 0], "states": states}, source=["a"] * 7 + ["b"])
    chosen = select(table, JudgeThenCover(), 4)
    assert {chosen.dropped["s5"], chosen.dropped["s6"]} == {"judged: loss = 1", "judged: loss = 2"}
    assert "s7" in chosen.ids, "the lowest, but the last of its group"
    covered = {reason for reason in chosen.dropped.values() if not reason.startswith("judged")}
    assert all(re.fullmatch(r"distance [0-9.]+ to 's[0-7]'", reason) for reason in covered)
    assert chosen.made_by["ruled_out"] == {"judged": 2}
    assert chosen.decisions["value"].to_pylist()[5] == 1


def test_choosing_needs_no_torch() -> None:
    code = "import sys, vlmsift.selectors; print({'torch', 'sklearn', 'duckdb', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
