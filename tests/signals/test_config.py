"""The config of a calibration: what it means, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlmsift.errors import UsageError
from vlmsift.signals import SIGNALS, build_signals, signal_word
from vlmsift.signals.answer_loss import AnswerLoss
from vlmsift.signals.calibrated import Calibrated, Part
from vlmsift.signals.config import Config, load_config
from vlmsift.signals.delta_attnmask import DeltaAttnMask

GOOD = """
signals: ["delta_attnmask:depth=0.5,rows=all", answer_loss]
calibrated:
  intercept: 1
  parts:
    - {signal: answer_loss, log: true, mean: 1.5, scale: 2, weight: -0.5}
    - {signal: "delta_attnmask:depth=0.5", mean: 0, scale: 1.0, weight: 0.25}
select: {by: calibrated, pick: highest}
made_by: {anything: goes}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "calibration.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_config_names_signals_weights_and_how_to_select(tmp_path):
    parts = (
        Part("answer_loss", AnswerLoss(), 1.5, 2.0, -0.5, True),
        Part("delta_attnmask:depth=0.5", DeltaAttnMask(depth=0.5), 0.0, 1.0, 0.25),
    )
    assert load_config(written(tmp_path, GOOD)) == Config(
        {
            "delta_attnmask": DeltaAttnMask(depth=0.5, rows="all"),
            "answer_loss": AnswerLoss(),
            "calibrated": Calibrated(parts, 1.0),
        },
        {"by": "calibrated", "pick": "highest"},
    )


def test_weights_and_selection_may_be_left_out(tmp_path):
    for text in ("signals: [random]", "signals: random", "random"):
        assert load_config(written(tmp_path, text)) == Config(build_signals(["random"]))


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        (GOOD, "just words", "there is no signal 'just words'; choose among delta_attnmask"),
        (GOOD, "a: [", "is not YAML: "),
        (GOOD, "signals: !!python/object/apply:os.getcwd []", "is not YAML: could not determine a constructor"),
        ("made_by", "weights", "keys has no 'weights'; it has signals, calibrated, select, made_by"),
        (
            'signals: ["delta_attnmask:depth=0.5,rows=all", answer_loss]',
            "signals: {answer_loss: 1}",
            "keys: signals.0={'answer_loss': 1} cannot be meant; give text",
        ),
        ("rows=all", "rows=some", "delta_attnmask: rows='some' cannot be meant; give one of answer, all"),
        ('["delta_attnmask', '["calibrated=delta_attnmask', "'calibrated' is already the column"),
        ("intercept: 1", "offset: 1", "calibrated has no 'offset'; it has intercept, parts"),
        ("intercept: 1", "intercept: .nan", "calibrated: intercept=nan cannot be meant; give a number"),
        ("intercept: 1", "intercept: true", "calibrated: intercept=True cannot be meant; give a number"),
        ("mean: 1.5", "mean: many", "a part of calibrated: mean='many' cannot be meant; give a number"),
        ("mean: 1.5, ", "", "a part of calibrated: 'mean' is missing; add it"),
        ("scale: 2", "scale: 0", "scale=0 cannot be meant; give a number above 0"),
        ("log: true", "log: 3", "log=3 cannot be meant; give true or false"),
        ("{signal: answer_loss", "{signal: hidden_mean", "'hidden_mean' is a vector and cannot be weighed"),
        ("{signal: answer_loss", "{signal: nothing", "there is no signal 'nothing'"),
        ("{signal: answer_loss", "{signal: 3", "signal=3 cannot be meant; give text"),
        ("by: calibrated", "by: el2n", "by='el2n' is no column of this config; it has delta_attnmask, answer_loss"),
        ("pick: highest", "top: 3", "select has no 'top'; it has by, pick, balance, keep"),
    ],
)
def test_what_cannot_be_meant_is_quoted(tmp_path, before, after, sentence):
    assert before in GOOD
    path = written(tmp_path, GOOD.replace(before, after))
    with pytest.raises(UsageError, match=sentence) as caught:
        load_config(path)
    assert f"the config {path}" in str(caught.value)


def test_an_empty_list_of_parts_and_a_missing_file(tmp_path):
    with pytest.raises(UsageError, match=r"calibrated: parts=\[\] cannot be meant"):
        load_config(written(tmp_path, "signals: [random]\ncalibrated: {intercept: 0, parts: []}"))
    with pytest.raises(UsageError, match=r"nothing\.yaml cannot be read"):
        load_config(tmp_path / "nothing.yaml")


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signals_word_builds_it_again(name):
    signal = SIGNALS[name]()
    assert build_signals([f"x={signal_word(signal)}"]) == {"x": signal}


def test_a_word_holds_what_differs_from_the_defaults():
    signal = DeltaAttnMask(depth=-1, ratio=0.1, rows="all", relative=True)
    assert signal_word(signal) == "delta_attnmask:depth=-1,ratio=0.1,rows=all,relative=True"
    assert build_signals([signal_word(signal)]) == {"delta_attnmask": signal}
    assert signal_word(DeltaAttnMask()) == "delta_attnmask"
    with pytest.raises(UsageError, match="'calibrated' cannot be asked for by a word"):
        signal_word(Calibrated((Part("random", AnswerLoss(), 0, 1, 1),)))
