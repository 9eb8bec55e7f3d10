"""The table of signals and the words that ask for them."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

import vlmsift
from vlmsift.demo import START_PATH
from vlmsift.demo.pool import make_pool
from vlmsift.errors import UsageError
from vlmsift.passes.loss import Head
from vlmsift.signals import DEFAULT_SIGNALS, SIGNALS, build_signals
from vlmsift.signals.answer_loss import AnswerLoss
from vlmsift.signals.delta_attnmask import DeltaAttnMask
from vlmsift.signals.hidden_mean import HiddenMean
from vlmsift.signals.random import Random
from vlmsift.specs import EngineSpec
from vlmsift.types import Signal


def test_the_table_is_as_documented():
    assert list(SIGNALS) == [
        "delta_attnmask",
        "delta_random",
        "delta_bottom",
        "answer_loss",
        "answer_tokens",
        "attention_influence",
        "concept_states",
        "el2n",
        "entropy",
        "entropy_profile",
        "hidden_mean",
        "ifd",
        "image_attention",
        "image_entropy",
        "image_gain",
        "image_spectrum",
        "last_state",
        "random",
        "surprise",
    ]
    assert set(DEFAULT_SIGNALS) <= set(SIGNALS)


def test_controls_are_the_same_signal_with_another_choice():
    assert SIGNALS["delta_attnmask"]() == DeltaAttnMask(choose="top")
    assert SIGNALS["delta_random"]() == DeltaAttnMask(choose="random")
    assert SIGNALS["delta_bottom"]() == DeltaAttnMask(choose="bottom")


@pytest.mark.parametrize(
    ("word", "column", "signal"),
    [
        ("answer_loss", "answer_loss", AnswerLoss()),
        ("random:seed=7", "random", Random(seed=7)),
        ("again=random:seed=-3", "again", Random(seed=-3)),
        ("random:", "random", Random()),
        ("delta_attnmask:depth=0", "delta_attnmask", DeltaAttnMask(depth=0)),
        ("delta_attnmask:depth=-1,ratio=1", "delta_attnmask", DeltaAttnMask(depth=-1, ratio=1.0)),
        ("delta_attnmask:depth=0.25, rows=all", "delta_attnmask", DeltaAttnMask(depth=0.25, rows="all")),
        (
            "late=delta_random:relative=true,replace=drop",
            "late",
            DeltaAttnMask(choose="random", relative=True, replace="drop"),
        ),
        ("delta_attnmask:relative=False", "delta_attnmask", DeltaAttnMask()),
        ("hidden_mean:depth=1,dimensions=0", "hidden_mean", HiddenMean(depth=1.0, dimensions=0)),
    ],
)
def test_a_word_names_a_signal_its_fields_and_its_column(word, column, signal):
    built = build_signals([word])
    assert built == {column: signal}
    for field in dataclasses.fields(signal):
        assert type(getattr(built[column], field.name)) is type(getattr(signal, field.name))


def test_the_order_of_the_words_is_kept():
    words = ["random", "a=random:seed=1", "answer_loss"]
    assert list(build_signals(words)) == ["random", "a", "answer_loss"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["delta"], "there is no signal 'delta'; choose among delta_attnmask, delta_random"),
        (["x=delta"], "there is no signal 'delta'"),
        ([""], "there is no signal ''"),
        (
            ["random", "random:seed=1"],
            "column 'random' is asked for twice; name one of them, as in other=random:seed=1",
        ),
        (["a b=random"], "'a b' cannot be a column's name; use letters, digits and _"),
        (["=random"], "'' cannot be a column's name"),
        (["random:size=1"], r"random has no field 'size' \(in 'size=1'\); it has seed"),
        (["random:seed"], "random has no field 'seed'"),
        (["answer_loss:seed=1"], "answer_loss has no field 'seed' .*; it has none"),
        (["random:seed=1.5"], "random: seed=1.5 cannot be meant; give a whole number"),
        (["random:seed=True"], "random: seed=True cannot be meant; give a whole number"),
        (["random:seed=__import__('os')"], "random: seed=.* cannot be meant"),
        (
            ["delta_attnmask:ratio=True"],
            "delta_attnmask: ratio=True cannot be meant",
        ),
        (["delta_attnmask:ratio=much"], "delta_attnmask: ratio='much' cannot be meant"),
        (["delta_attnmask:ratio=0"], "delta_attnmask: ratio=0 cannot be meant; give a number above 0 and at most 1"),
        (
            ["delta_attnmask:depth=1.0"],
            "depth=1.0 cannot be meant; give a number at least 0 and below 1 or",
        ),
        (["delta_attnmask:depth=x"], "delta_attnmask: depth='x' cannot be meant"),
        (
            ["delta_attnmask:eligible=prompt"],
            "eligible='prompt' cannot be meant; give one of image, context, all",
        ),
        (["delta_attnmask:relative=1"], "delta_attnmask: relative=1 cannot be meant; give true or false"),
        (["image_spectrum:top=0"], "image_spectrum: top=0 cannot be meant; give a whole number at least 1"),
        (["image_spectrum:attention=real"], "attention='real' cannot be meant; give one of true, released"),
        (
            ["concept_states:dimensions=7"],
            "dimensions=7 cannot be meant; give a whole number .* a multiple of 2",
        ),
        (["concept_states:layers=0"], "concept_states: layers=0 cannot be meant"),
        (["last_state:dimensions=-1"], "last_state: dimensions=-1 cannot be meant"),
        (["ifd:image=blank"], "ifd: image='blank' cannot be meant; give one of dropped, seen"),
        (["attention_influence:floor=0"], "attention_influence: floor=0 cannot be meant; give a number above 0"),
        (["hidden_mean:depth=1.5"], "hidden_mean: depth=1.5 cannot be meant; give a number at least 0 and at most 1"),
        (["hidden_mean:depth=-1"], "hidden_mean: depth=-1 cannot be meant"),
        (["hidden_mean:dimensions=-1"], "hidden_mean: dimensions=-1 cannot be meant; give a whole number at least 0"),
    ],
)
def test_a_word_that_cannot_be_meant(words, sentence):
    with pytest.raises(UsageError, match=sentence):
        build_signals(words)


@pytest.mark.parametrize("name", SIGNALS)
def test_parameters_are_plain_json_that_builds_the_same_signal(name):
    signal = SIGNALS[name]()
    told = json.loads(json.dumps(signal.parameters()))
    assert type(signal)(**told) == signal


def test_parameters_hold_every_field():
    assert DeltaAttnMask(depth=3).parameters() == {
        "depth": 3,
        "ratio": 0.5,
        "eligible": "image",
        "rows": "answer",
        "layers": "all",
        "replace": "zero",
        "sinks": "exclude",
        "choose": "top",
        "seed": 0,
        "heads": "mean",
        "where": "once",
        "state": "",
        "relative": False,
    }


class Share(Signal):
    """A plain class, as somebody else writes one: the answer's share of the tokens."""

    name, unit, higher_means = "share", "share of tokens", "more of the sample is answer"

    def __call__(self, batch, measured):
        return batch.query_mask.sum(1) / batch.valid.sum(1)


class Parts(Share):
    """A vector: answer's and image's share, and the loss that the passes measured."""

    name = "parts"
    needs = (Head(),)

    def width(self, hidden_size, layers):
        return 3

    def __call__(self, batch, measured):
        both = torch.stack([batch.query_mask.sum(1), batch.image_mask.sum(1)], 1) / batch.valid.sum(1)[:, None]
        return torch.cat([both.cpu(), measured[Head()][:, None]], 1)


def test_a_user_s_own_signals_are_scored_and_selected_by(tmp_path):
    pool = make_pool(tmp_path / "pool", 40, 0)
    signals = {"mine": Share(), "several": Parts(), "loss": AnswerLoss()}
    run = vlmsift.score(pool, START_PATH, tmp_path / "run", signals=signals, engine=EngineSpec(workers=0))
    assert run.settings["identity"]["signals"]["mine"]["parameters"] == {}
    table, several = run.table(), run.vector("several")
    assert several.shape == (40, 3)
    assert several[:, 0].tolist() == table["mine"].to_pylist()
    assert several[:, 2].tolist() == table["loss"].to_pylist()
    kept = vlmsift.select(run, vlmsift.Top("mine", balance="none"), "25%")
    order = sorted(range(40), key=lambda row: -table["mine"][row].as_py())
    assert min(several[[list(table["id"].to_pylist()).index(name) for name in kept.ids], 0]) >= several[order[10], 0]
