"""The table of signals and the words that ask for them."""

from __future__ import annotations

import dataclasses
import json

import pytest

from vlmsift.errors import UsageError
from vlmsift.signals import DEFAULT_SIGNALS, SIGNALS, build_signals, parameters
from vlmsift.signals.answer_loss import AnswerLoss
from vlmsift.signals.delta_attnmask import DeltaAttnMask
from vlmsift.signals.hidden_mean import HiddenMean
from vlmsift.signals.random import Random


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
        "entropy_profile",
        "hidden_mean",
        "ifd",
        "image_attention",
        "image_entropy",
        "image_gain",
        "image_spectrum",
        "last_state",
        "random",
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
        (["random:seed=1.5"], "random: seed='1.5' is not int"),
        (["random:seed=True"], "random: seed='True' is not int"),
        (["random:seed=__import__('os')"], "random: seed=.* is not int"),
        (["delta_attnmask:ratio=True"], "delta_attnmask: ratio='True' is not float"),
        (["delta_attnmask:ratio=much"], "delta_attnmask: ratio='much' is not float"),
        (["delta_attnmask:ratio=0"], "ratio=0.0 is not a share of tokens"),
        (["delta_attnmask:depth=1.0"], "depth=1.0 is not a fraction of the layers"),
        (["delta_attnmask:depth=x"], "delta_attnmask: depth='x' is not float or int"),
        (["delta_attnmask:eligible=prompt"], "delta_attnmask: eligible='prompt' is not one of image, context, all"),
        (["delta_attnmask:relative=1"], "delta_attnmask: relative='1' is not bool"),
        (["image_spectrum:top=0"], "image_spectrum: top=0 sums no singular value"),
        (["image_spectrum:attention=real"], "attention='real' is not one of true, released"),
        (["concept_states:dimensions=7"], "dimensions=7 cannot be split between image and text"),
        (["concept_states:layers=0"], "layers=0 looks at nothing"),
        (["last_state:dimensions=-1"], "last_state: dimensions=-1 is below 0"),
        (["ifd:image=blank"], "ifd: image='blank' is not one of dropped, seen"),
        (["attention_influence:floor=0"], "floor=0.0 does not keep from 0"),
        (["hidden_mean:depth=1.5"], "hidden_mean: depth=1.5 is not a fraction of the layers"),
        (["hidden_mean:depth=-1"], "hidden_mean: depth=-1.0 is not a fraction"),
        (["hidden_mean:dimensions=-1"], "hidden_mean: dimensions=-1 is below 0; give 0 to keep all"),
    ],
)
def test_a_word_that_cannot_be_meant(words, sentence):
    with pytest.raises(UsageError, match=sentence):
        build_signals(words)


@pytest.mark.parametrize("name", SIGNALS)
def test_parameters_are_plain_json_that_builds_the_same_signal(name):
    signal = SIGNALS[name]()
    told = json.loads(json.dumps(parameters(signal)))
    assert type(signal)(**told) == signal


def test_parameters_hold_every_field():
    assert parameters(DeltaAttnMask(depth=3)) == {
        "depth": 3,
        "ratio": 0.5,
        "eligible": "image",
        "rows": "answer",
        "layers": "all",
        "replace": "zero",
        "sinks": "exclude",
        "choose": "top",
        "seed": 0,
        "relative": False,
    }
