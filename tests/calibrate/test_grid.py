"""The candidates: which there are, which way is good, and what each costs."""

from __future__ import annotations

import pytest

from vlmsift.calibrate.grid import DEAR, PLAIN, SIZES, candidates, default_column
from vlmsift.errors import UsageError
from vlmsift.signals import SIGNALS, build_signals, forwards
from vlmsift.signals.delta_attnmask import DeltaAttnMask


def by_column(grid, depth):
    return {one.column: one for one in candidates(grid, depth)}


def test_every_scalar_signal_of_the_house_is_a_candidate():
    scalars = {name for name, cls in SIGNALS.items() if not cls().is_vector} - {"delta_random", "delta_bottom"}
    assert {"delta_attnmask", "attention_influence", "entropy", *PLAIN, *DEAR} == scalars
    assert set(PLAIN) <= set(by_column("small", 5))
    assert {*PLAIN, *DEAR} <= set(by_column("full", 5))
    assert {name for name in SIGNALS if SIGNALS[name]().good} == scalars - {"entropy"} | {
        "delta_random",
        "delta_bottom",
    }


def test_the_small_grid():
    found = by_column("small", 5)
    families = [one.family for one in found.values()]
    assert {name: families.count(name) for name in set(families)} == {"signal": 8, "delta": 24, "control": 12}
    settings = {one.setting for one in found.values() if one.family == "delta"}
    assert len(settings) == 24
    for one in found.values():
        built = build_signals([f"x={one.word}"])["x"]
        if one.family == "delta":
            control = build_signals([f"x={found[one.control].word}"])["x"]
            facts = dict(one.setting)
            assert built.choose == "top"
            assert control.choose == "random"
            for name in ("depth", "ratio", "eligible"):
                assert getattr(built, name) == getattr(control, name)
            assert (built.layer(5), built.ratio, built.eligible, built.rows) == tuple(
                facts[name] for name in ("depth", "ratio", "eligible", "rows")
            )


@pytest.mark.parametrize(("depth", "layers"), [(1, {0}), (2, {0, 1}), (3, {0, 1}), (5, {0, 1, 2}), (28, {0, 7, 14})])
def test_depths_that_are_one_layer_come_once(depth, layers):
    found = [one for one in candidates("small", depth) if one.family == "delta"]
    assert {dict(one.setting)["depth"] for one in found} == layers
    assert len(found) == 8 * len(layers)


def test_the_full_grid_reaches_the_last_layers_input():
    found = [one for one in candidates("full", 28) if one.family == "delta"]
    size = SIZES["full"]
    assert {dict(one.setting)["depth"] for one in found} == {0, 3, 7, 14, 21, 27}
    assert len(found) == 6 * len(size.ratios) * len(size.eligible) * len(size.rows)


def test_costs_are_counted_in_forwards():
    found = by_column(["quarter=delta_attnmask:depth=0.25", "last=delta_attnmask:depth=-1", "image_gain", "el2n"], 8)
    cost = {name: one.forwards for name, one in found.items()}
    assert cost["quarter"] == cost["random_of_quarter"] == 1 + 6 / 8
    assert (cost["last"], cost["image_gain"], cost["el2n"], cost["random"]) == (1 + 1 / 8, 2, 1, 0)
    # together they share the first pass; the control's masked pass is its own, the same setting twice is one
    signals = [build_signals([f"x={one.word}"])["x"] for one in found.values()]
    assert (
        forwards([*signals, DeltaAttnMask(depth=-1), DeltaAttnMask(depth=-1, relative=True)], 8)
        == 1 + 12 / 8 + 2 / 8 + 1
    )


def test_words_are_taken_as_they_are_with_what_they_are_held_against():
    found = by_column(["a=delta_attnmask:rows=all", "b=delta_attnmask", "low=delta_bottom"], 5)
    assert list(found) == ["a", "random_of_a", "b", "low", "answer_loss", "random"]
    assert found["a"].control == found["b"].control == "random_of_a", "one control serves all rows"
    assert found["low"].family == "control"
    assert found["answer_loss"].good == "lowest"


def test_the_default_is_found_by_what_it_does():
    assert default_column(candidates("small", 5), 5) == "delta_1_50_image_answer"
    assert default_column(candidates(["mine=delta_attnmask:depth=1"], 5), 5) == "mine"
    assert default_column(candidates(["mine=delta_attnmask:relative=true"], 5), 5) is None
    assert default_column(candidates(["el2n"], 5), 5) is None


@pytest.mark.parametrize(
    ("grid", "sentence"),
    [
        ("huge", "there is no grid 'huge'; give small or full, or a list of signals"),
        ([], r"an empty grid \(grid=\[\]\)"),
        (["delta"], "there is no signal 'delta'"),
        (["hidden_mean"], "'hidden_mean' has no end at which good samples are expected"),
        (["answer_loss=el2n"], "the column 'answer_loss' is kept for the signal of that name"),
        (["delta_attnmask:depth=9"], "depth=9 is outside this model's 5 layers"),
    ],
)
def test_a_grid_that_cannot_be_meant(grid, sentence):
    with pytest.raises(UsageError, match=sentence):
        candidates(grid, 5)
