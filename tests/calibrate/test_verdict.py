"""Toy tables with a known verdict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.plants.samples import layout
from vlmsift.calibrate.combined import combined
from vlmsift.calibrate.grid import Candidate
from vlmsift.calibrate.verdict import Figure, judge, luck, mean_of, recommend, rows_of
from vlmsift.plants.layout import resamples

COUNT = 120
KINDS = ["wrong_image", "wrong_answer", "duplicate"]
ROWS = layout(COUNT, KINDS)
GOOD = ROWS.originals | ROWS.twins["duplicate"]


def signal(strength: float, seed: int) -> np.ndarray:
    """Noise that is `strength` higher for originals and their copies."""
    return np.random.default_rng(seed).normal(size=len(ROWS.of)) + strength * GOOD


def candidate(name: str, family: str = "delta", good: str = "highest", control: str = "") -> Candidate:
    return Candidate(name, f"word_{name}", family, good, 1.5, control, (("depth", 1),))


def told(strengths: dict[str, float], default: str | None = "shipped", loss: float = 1.0):
    """The verdict where the delta settings, their control and the loss are as strong as said."""
    found = [candidate(name, control="chance") for name in strengths]
    found += [candidate("chance", "control"), candidate("answer_loss", "signal", "lowest")]
    values = {name: signal(strength, seed) for seed, (name, strength) in enumerate(strengths.items())}
    values |= {"chance": signal(0, 90), "answer_loss": 9 - signal(loss, 91), "answer_tokens": signal(0, 92)}
    return recommend(judge(found, values, ROWS), default)


def test_perfect_constant_and_reversed_signals():
    values = {"perfect": GOOD * 1.0, "constant": np.ones(len(GOOD)), "reversed": GOOD * -1.0, "low": GOOD * -1.0}
    values |= {"answer_loss": signal(0, 0), "answer_tokens": signal(0, 1)}
    found = [candidate("perfect"), candidate("constant"), candidate("reversed"), candidate("low", good="lowest")]
    judged = judge(found, values, ROWS)
    assert [judged[name].mean.value for name in ("perfect", "constant", "reversed", "low")] == [1.0, 0.5, 0.0, 1.0]
    assert judged["perfect"].mean.interval == (1.0, 1.0)
    # a copy is as good as its original, and no part of the mean
    assert judged["perfect"].kinds["duplicate"].value == 0.5
    assert list(judged["perfect"].kinds) == KINDS


def test_a_record_holds_every_figure_and_the_best_comes_first():
    values = {
        "weak": signal(0.3, 0),
        "strong": signal(2, 1),
        "answer_loss": signal(0, 2),
        "answer_tokens": signal(0, 3),
    }
    values["weak"][ROWS.of == 3] = np.nan
    judged = judge([candidate("weak"), candidate("strong")], values, ROWS)
    strong, weak = rows_of(judged, {"weak": {"probe_exact": 0.5}})
    assert (strong["column"], weak["column"], strong["probe_exact"], weak["probe_exact"]) == (
        "strong",
        "weak",
        None,
        0.5,
    )
    assert strong["low_mean"] < strong["auroc_mean"] < strong["high_mean"]
    assert strong["auroc_mean"] == pytest.approx((strong["auroc_wrong_image"] + strong["auroc_wrong_answer"]) / 2)
    assert weak["defined"] == pytest.approx(1 - 1 / COUNT)
    assert strong["defined"] == 1
    assert strong["depth"] == 1
    assert strong["rows"] is None


def test_correlations_are_over_originals():
    length = signal(0, 5)
    follows = np.where(ROWS.originals, length, -length)
    values = {"follows": follows, "answer_loss": -follows, "answer_tokens": length}
    judged = judge([candidate("follows")], values, ROWS)["follows"]
    assert judged.length == pytest.approx(1.0)
    assert judged.loss == pytest.approx(-1.0)


def test_a_clearly_better_setting_replaces_the_default():
    verdict = told({"shipped": 0.2, "better": 2.0, "worse": 0.0})
    assert verdict.column == "better"
    text = " ".join(verdict.sentences)
    assert "Best Delta-AttnMask setting of 3: word_better" in text
    assert "no proof" not in text


def test_a_lucky_setting_does_not():
    strengths = {"shipped": 1.0} | {f"s{number}": 1.0 for number in range(20)}
    verdict = told(strengths)
    assert verdict.column == "shipped"
    assert "That is no proof that it is better, so the shipped default is kept." in verdict.sentences


def test_without_the_default_the_best_is_recommended():
    assert told({"one": 0.2, "two": 0.5}, default=None).column == "two"
    verdict = told({"shipped": 1.0, "two": 0.1})
    assert verdict.column == "shipped"
    assert "That is the shipped default." in verdict.sentences


def test_it_says_when_chance_or_the_loss_is_not_beaten():
    weak = " ".join(told({"shipped": -0.1}).sentences)
    assert "not shown here that attention tells better than chance" in weak
    assert "It is below, by -" in weak
    assert "No single signal beats the loss at finding plants here." in weak
    strong = " ".join(told({"shipped": 3.0}, loss=0.5).sentences)
    assert "It is above, by +" in strong
    assert "1 single signals beat the loss; the best of them is word_shipped" in strong
    assert "not shown" not in strong


def test_undefined_settings_are_passed_over():
    found = [candidate("nothing"), candidate("answer_loss", "signal", "lowest")]
    values = {"nothing": np.full(len(GOOD), np.nan), "answer_loss": -signal(1, 0), "answer_tokens": signal(0, 1)}
    verdict = recommend(judge(found, values, ROWS), "nothing")
    assert verdict.column == "answer_loss"
    assert verdict.sentences == ["No Delta-AttnMask setting could be judged; the best signal is recommended instead."]


def test_differences_are_paired():
    """Two signals that err together differ surely, however wide each one's own interval."""
    base = signal(0.5, 0)
    values = {"one": base, "two": base + 0.2 * GOOD, "answer_loss": base, "answer_tokens": base}
    judged = judge([candidate("one"), candidate("two")], values, ROWS)
    one, two = judged["one"].mean, judged["two"].mean
    low, high = (two - one).interval
    assert 0 < low < (two - one).value < high
    assert two.interval[0] < one.interval[1]


def test_luck_grows_with_the_number_of_settings_but_not_with_copies():
    rng = np.random.default_rng(0)
    gaps = [Figure(0.0, rng.normal(size=2000)) for _ in range(20)]
    assert luck(gaps[:1]) == pytest.approx(1.645, abs=0.1)
    assert luck(gaps) == pytest.approx(2.8, abs=0.15)  # the 95 % point of the largest of twenty normals
    assert luck([gaps[0]] * 20) == luck(gaps[:1])
    assert luck([]) == luck([Figure(0.0, np.zeros(5))]) == 0.0


def test_a_mean_without_kinds_is_undefined():
    assert np.isnan(mean_of({"duplicate": Figure(0.5, np.zeros(3))}).value)
    assert resamples(3, 2, 0).shape == (3, 3)


def parts(gain: float):
    names = {"answer_loss": "lowest", "image_attention": "highest", "image_entropy": "lowest", "image_gain": "highest"}
    found = [replace(candidate(name, "signal", good), word=name) for name, good in names.items()] + [candidate("delta")]
    values = {"delta": signal(0.5, 1), "image_gain": signal(gain, 2), "answer_tokens": signal(0, 3)}
    values |= {"answer_loss": np.exp(-signal(1.0, 4)), "image_attention": signal(0.5, 5), "image_entropy": signal(0, 6)}
    return judge(found, values, ROWS), values


def test_the_combination_finds_more_than_its_parts():
    judged, values = parts(gain=0.0)
    weights, figures, said = combined(judged, values, ROWS, "delta", 0)
    assert weights.words == ("answer_loss", "image_attention", "image_entropy", "word_delta"), "the dear one stays out"
    assert figures["calibrated"].mean.value > judged["answer_loss"].mean.value
    assert figures["calibrated"].candidate.forwards == 1 + 4 * 0.5
    assert next(iter(weights.named)) == "answer_loss"
    assert weights.named["answer_loss"] < 0 < weights.named["word_delta"]
    assert "log(answer_loss) -" in said[0]
    assert len(said) == 1
    logged = np.log(values["answer_loss"][~ROWS.twins["duplicate"]])
    assert weights.weights.mean[0] == pytest.approx(logged.mean(), rel=1e-6)


def test_a_dear_part_enters_where_it_earns_its_place():
    judged, values = parts(gain=2.0)
    weights, _, _ = combined(judged, values, ROWS, "delta", 0)
    assert weights.words[-1] == "image_gain"


def test_too_few_twins_leave_it_out():
    small = layout(6, ["wrong_image"])
    values = {"answer_loss": np.arange(12.0), "answer_tokens": np.arange(12.0)}
    judged = judge([replace(candidate("answer_loss", "signal", "lowest"), word="answer_loss")], values, small)
    weights, figures, said = combined(judged, values, small, "answer_loss", 0)
    assert weights is None
    assert figures == {}
    assert "too few twins" in said[0]
