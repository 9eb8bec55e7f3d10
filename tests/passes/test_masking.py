"""Which tokens are masked, and what becomes of their states: closed forms on batches written by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.helpers import hand_batch
from vlmsift.errors import UsageError
from vlmsift.passes.attention_received import AttentionReceived
from vlmsift.passes.masking import (
    SINK_FACTOR,
    SINK_SHARE,
    Masking,
    choose_tokens,
    decode_state,
    eligible_tokens,
    encode_state,
    replace_states,
    sample_generator,
)
from vlmsift.types import Batch

KEEP: dict[str, Any] = {"sinks": "keep"}


def rising(batch: Batch) -> Tensor:
    """Scores that rise from left to right and are far from any sink."""
    length = batch.valid.shape[1]
    return torch.arange(length).expand(len(batch), -1) / 1000 + 0.001


def letters(chosen: Tensor) -> list[str]:
    return ["".join(".x"[int(one)] for one in row) for row in chosen]


@pytest.mark.parametrize(
    ("eligible", "row", "expected"),
    [
        ("image", "spiipaas", "..xx...."),
        ("context", "spiipaas", ".xxxx..."),
        ("all", "spiipaas", ".xxxxxx."),
        ("image", "sppaas..", "........"),
        ("context", "..spipaa", "...xxx.."),
        ("all", "..spipaa", "...xxxxx"),
    ],
)
def test_eligible_tokens(eligible, row, expected):
    batch = hand_batch(row)
    masking = Masking(eligible=eligible, **KEEP)
    assert letters(eligible_tokens(masking, batch, rising(batch))) == [expected]


@pytest.mark.parametrize(
    ("row", "expected"),
    [("iippa", ".xxx."), ("..iipa", "...xx."), ("iippa.", ".xxx.."), ("spipa", ".xxx."), ("...pa", ".....")],
)
def test_the_first_position_is_a_sink_whatever_the_padding(row, expected):
    batch = hand_batch(row)
    assert letters(eligible_tokens(Masking(eligible="context"), batch, rising(batch))) == [expected]


@pytest.mark.parametrize(("share", "factor", "is_sink"), [(1.2, 1.2, True), (0.8, 3.0, False), (2.0, 0.8, False)])
def test_a_sink_has_a_tenth_of_the_attention_and_ten_times_the_mean(share, factor, is_sink):
    batch = hand_batch("p" * 50 + "aa" + "." * 8)
    sink = SINK_SHARE * share
    mean = sink / (SINK_FACTOR * factor)
    scores = torch.full((1, 60), (mean * 52 - sink) / 51)
    scores[0, 7] = sink
    scores[0, 52:] = 1.0  # padding is not part of the mean
    chosen = eligible_tokens(Masking(eligible="context"), batch, scores)
    assert bool(chosen[0, 7]) is not is_sink
    assert int(chosen.sum()) == 49 - is_sink
    assert eligible_tokens(Masking(eligible="context", **KEEP), batch, scores)[0, :50].all()


@pytest.mark.parametrize(
    ("count", "ratio", "wanted"),
    [
        (4, 0.5, 2),
        (5, 0.5, 2),
        (3, 0.01, 1),
        (7, 1.0, 7),
        (3, 1 / 3, 1),
        (180, 0.65, 117),  # in float32 it is 116.99999
        (100, 0.29, 29),  # in float64 it is 28.999999999999996
        (0, 0.5, 0),
    ],
)
def test_as_many_tokens_as_the_ratio_says(count, ratio, wanted):
    batch = hand_batch("s" + "i" * count + "pa")
    assert int(choose_tokens(Masking(ratio=ratio), batch, rising(batch)).sum()) == wanted


@pytest.mark.parametrize(("choose", "expected"), [("top", "...xx."), ("bottom", ".xx...")])
def test_top_and_bottom(choose, expected):
    batch = hand_batch("siiiia")
    assert letters(choose_tokens(Masking(choose=choose), batch, rising(batch))) == [expected]


@pytest.mark.parametrize("choose", ["top", "bottom"])
def test_ties_go_to_the_lower_position(choose):
    batch = hand_batch("s" + "i" * 40 + "a", "." * 20 + "s" + "i" * 20 + "a")
    chosen = choose_tokens(Masking(choose=choose), batch, torch.full((2, 42), 0.01))
    assert letters(chosen) == ["." + "x" * 20 + "." * 21, "." * 21 + "x" * 10 + "." * 11]


def test_each_sample_is_chosen_from_on_its_own():
    batch = hand_batch("siiiia", "spiiia", "sppppa")
    scores = torch.tensor([[9, 1, 4, 3, 2, 0], [9, 8, 1, 2, 3, 0], [9, 8, 7, 6, 5, 4]]) / 1000
    assert letters(choose_tokens(Masking(), batch, scores)) == ["..xx..", "....x.", "......"]


def test_random_depends_on_id_and_seed_alone():
    masking = Masking(choose="random", eligible="context")
    rows = ["spiippppppppiipa", "spiippppppppipa.", ".spiippppppppipa"]
    first, padded, shifted = (hand_batch(row, ids=["same"]) for row in rows)
    together = hand_batch(rows[0], rows[1], ids=["other", "same"])

    def drawn(batch: Batch, scores: Tensor | None = None, **changes: Any) -> Tensor:
        chosen = choose_tokens(
            Masking(choose="random", eligible="context", **changes), batch, rising(batch) if scores is None else scores
        )
        return chosen[-1][batch.valid[-1]]

    assert torch.equal(drawn(padded), drawn(shifted))
    assert torch.equal(drawn(padded), drawn(together))
    assert torch.equal(drawn(padded), drawn(padded, rising(padded).flip(1)))
    assert int(drawn(first).sum()) == int(choose_tokens(masking, first, rising(first)).sum())
    draws = [tuple(drawn(first, seed=seed).tolist()) for seed in range(20)]
    assert len(set(draws)) > 15
    assert torch.tensor(draws).any(0)[2:-1].all()  # every eligible place is drawn now and then
    other = hand_batch(rows[0], ids=["another"])
    assert not torch.equal(drawn(first), drawn(other))


def test_the_generator_is_the_same_everywhere():
    """A pinned value: runs are resumed on other machines."""
    assert torch.rand((), generator=sample_generator("sample-1", 0)).item() == pytest.approx(0.8097773790359497)


STATES = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
BATCH = hand_batch("siipa.", ".siiia")
CHOSEN = torch.tensor([[0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0]], dtype=torch.bool)


def replaced(**how: Any) -> Tensor:
    before = STATES.clone()
    after = replace_states(Masking(**how), BATCH, before, CHOSEN)
    assert torch.equal(before, STATES), "the states that came in were changed"
    assert torch.equal(after[~CHOSEN], STATES[~CHOSEN])
    return after


def test_zero():
    assert (replaced(replace="zero")[CHOSEN] == 0).all()


def test_drop_leaves_the_states():
    assert torch.equal(replaced(replace="drop"), STATES)


def test_mean_is_the_sample_s_own_without_padding():
    after = replaced(replace="mean")
    torch.testing.assert_close(after[0, 1], STATES[0, :5].mean(0))
    torch.testing.assert_close(after[0, 2], STATES[0, :5].mean(0))
    torch.testing.assert_close(after[1, 4], STATES[1, 1:].mean(0))


def test_the_pool_s_mean_is_given():
    state = torch.tensor([0.5, -1.25, 3.0, 1e-7])
    assert torch.equal(decode_state(encode_state(state), 4), state)
    assert torch.equal(replaced(replace="pool", state=encode_state(state))[CHOSEN], state.expand(3, 4))
    for word, told in (("", "needs the pool's mean state"), (encode_state(state[:3]), "4 numbers wide"), ("?", "wide")):
        with pytest.raises(UsageError, match=told):
            replaced(replace="pool", state=word)
    with pytest.raises(UsageError, match="the mean state at one depth"):
        Masking(replace="pool", where="every")


def test_noise_has_the_mean_norm_and_depends_on_id_and_seed_alone():
    after = replaced(replace="noise")
    for row, valid in enumerate([slice(0, 5), slice(1, 6)]):
        norm = STATES[row, valid].norm(dim=-1).mean()
        torch.testing.assert_close(after[row][CHOSEN[row]].norm(dim=-1), norm.expand(int(CHOSEN[row].sum())))
    assert not torch.equal(after[0, 1], after[0, 2])
    assert not torch.equal(after[CHOSEN], replaced(replace="noise", seed=1)[CHOSEN])
    alone, other = (hand_batch("siiia", ids=[name]) for name in ("row-1", "row-2"))
    shifted, changed = (
        replace_states(Masking(replace="noise"), b, STATES[1:, 1:], CHOSEN[1:, 1:]) for b in (alone, other)
    )
    torch.testing.assert_close(shifted[0], after[1, 1:])
    assert not torch.equal(changed, shifted)


def test_half_precision_stays_half():
    for replace in ("zero", "mean", "noise", "drop"):
        assert replace_states(Masking(replace=replace), BATCH, STATES.bfloat16(), CHOSEN).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("depth", "layers", "expected"),
    [(0.0, 5, 0), (0.5, 5, 2), (0.5, 4, 2), (0.999, 5, 4), (0, 5, 0), (4, 5, 4), (-1, 5, 4), (-5, 5, 0), (1, 5, 1)],
)
def test_depth_as_a_fraction_or_an_index(depth, layers, expected):
    assert Masking(depth=depth).layer(layers) == expected


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"depth": 1.0}, "depth=1.0 cannot be meant; give a number at least 0 and below 1 or a whole number"),
        ({"depth": -0.5}, "depth=-0.5 cannot be meant"),
        ({"depth": math.nan}, "depth=nan cannot be meant"),
        ({"ratio": 0.0}, "ratio=0.0 cannot be meant; give a number above 0 and at most 1"),
        ({"ratio": 1.5}, "ratio=1.5"),
        ({"ratio": math.nan}, "ratio=nan"),
    ],
)
def test_a_field_that_cannot_be_meant(fields, sentence):
    with pytest.raises(UsageError, match=sentence):
        Masking(**fields)


@pytest.mark.parametrize("depth", [5, -6, 99])
def test_a_layer_that_the_model_does_not_have(depth):
    with pytest.raises(UsageError, match=f"depth={depth} is outside this model's 5 layers; give -5 to 4"):
        Masking(depth=depth).layer(5)


@pytest.mark.parametrize(("layers", "span"), [("all", (0, None)), ("below", (0, 2)), ("above", (2, None))])
def test_the_layers_that_rank(layers, span):
    assert Masking(depth=0.5, layers=layers, rows="all").ranking(5) == AttentionReceived("all", *span)


def test_no_layer_lies_below_the_first():
    with pytest.raises(UsageError, match="layers='below' needs a depth above 0"):
        Masking(depth=0, layers="below").ranking(5)
