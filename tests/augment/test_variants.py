"""Each variant against a hand-made batch: which tokens, keys or heads it takes, and which it never takes."""

from __future__ import annotations

import math

import pytest
import torch

from tests.models.helpers import hand_batch
from vlmsift.augment import VARIANTS, Shape

SHAPE = Shape(layers=4, heads=6)
BATCH = hand_batch(
    "siiiiiiiiiiiiiiiiiiiippaas", "..siiiiiiiiiippppaaaaaaaas"[:26].ljust(26, "."), ids=("0:0:1:0", "0:0:1:1")
)
BOTH = torch.tensor([True, True])
FIRST = torch.tensor([True, False])


def received():
    """Distinct numbers that fall along the row."""
    return torch.linspace(0.09, 0.001, 26).expand(2, -1).clone()


def chosen(name, taking_part=BOTH, batch=BATCH, **fields):
    return VARIANTS[name](**fields).intervene(batch, taking_part, received(), SHAPE).chosen


def test_top_takes_the_ratio_of_the_image_tokens_in_order_of_attention():
    found = chosen("top", ratio=0.5)
    assert found[0].nonzero()[:, 0].tolist() == list(range(1, 11))
    assert found[1].nonzero()[:, 0].tolist() == list(range(3, 8))


def test_stkim_takes_a_part_of_the_top_set_anew_each_time():
    whole, part = chosen("top", ratio=0.5), chosen("stkim", ratio=0.5)
    assert not (part & ~whole).any()
    assert part.sum(1).tolist() == [6, 3]
    other = hand_batch("siiiiiiiiiiiiiiiiiiiippaas", ids=("0:0:2:0",))
    again = VARIANTS["stkim"](ratio=0.5).intervene(other, torch.tensor([True]), received()[:1], SHAPE).chosen
    assert again.sum() == 6
    assert not torch.equal(again[0], part[0])


def test_hints_leave_some_of_the_very_top_visible():
    whole, rest = chosen("top", ratio=0.5), chosen("hints", ratio=0.5, hints=0.2)
    shown = whole & ~rest
    assert not (rest & ~whole).any()
    # of 20 image tokens the 4 most attended may be shown, half of them are; of 10 the top 2, one is
    assert shown.sum(1).tolist() == [2, 1]
    assert shown[0].nonzero()[:, 0].max() <= 4
    assert shown[1].nonzero()[:, 0].max() <= 4


def test_random_takes_as_many_of_the_same_kind():
    found = chosen("random", ratio=0.5)
    assert found.sum(1).tolist() == [10, 5]
    assert not (found & ~BATCH.image_mask).any()
    assert not torch.equal(found, chosen("top", ratio=0.5))
    assert VARIANTS["random"]().ranking(4) is None


@pytest.mark.parametrize("name", ["top", "stkim", "hints", "random", "tlm", "meap", "neftune"])
def test_a_sample_that_takes_no_part_is_left_alone(name):
    fields = {"ratio": 0.5} if name in ("tlm", "meap") else {}
    found = chosen(name, FIRST, **fields)
    assert found[0].any()
    assert not found[1].any()


def test_states_are_zero_where_chosen_and_equal_elsewhere():
    change = VARIANTS["top"](ratio=0.5, depth=0.5).intervene(BATCH, BOTH, received(), SHAPE)
    assert change.layer == 2
    before = torch.randn(2, 26, 8, requires_grad=True)
    after = change.states(before)
    assert torch.equal(after[~change.chosen], before[~change.chosen])
    assert (after[change.chosen] == 0).all()
    after.sum().backward()
    assert torch.equal((before.grad != 0).any(-1), ~change.chosen)


def causal(batch=BATCH):
    return torch.ones(26, 26, dtype=torch.bool).tril() & batch.valid[:, None, :] & batch.valid[:, :, None]


def test_dropped_keys_are_seen_by_themselves_alone_from_the_depth_on():
    change = VARIANTS["top"](ratio=0.5, depth=0.5, replace="drop").intervene(BATCH, BOTH, received(), SHAPE)
    assert change.states is None
    before = causal()
    assert torch.equal(change.visible(1, before), before)
    after = change.visible(2, before)
    for row, place in change.chosen.nonzero().tolist():
        assert after[row, :, place].nonzero()[:, 0].tolist() == [place]
    kept = ~change.chosen
    assert torch.equal(after & kept[:, None], before & kept[:, None])


def slow_tlm(before, gone, alone):
    """Row by row, from the paper's words."""
    after = before.clone()
    for row in range(len(before)):
        for place in range(before.shape[1]):
            if not gone[row, place]:
                after[row, place] &= ~gone[row]
                continue
            others = before[row, place].clone()
            others[place] = False
            if alone[row, place]:
                after[row, place] = False
                after[row, place, place] = before[row, place, place]
            elif others.any():
                after[row, place] = others
    return after


def test_tlm_against_its_slow_twin_in_every_layer():
    from vlmsift.augment.variant import uniform

    change = VARIANTS["tlm"](ratio=0.4).intervene(BATCH, BOTH, None, SHAPE)
    drawn = uniform(BATCH, 0, 2, 4, 26)
    kinds = set()
    for layer in range(4):
        gone = (drawn[:, 0, layer] < 0.4) & BATCH.valid
        alone = drawn[:, 1, layer] < 0.5
        kinds |= set(alone[gone].tolist())
        expected = slow_tlm(causal(), gone, alone)
        found = change.visible(layer, causal())
        assert torch.equal(found, expected)
        assert found[BATCH.valid].any(-1).all()
        assert not (found & ~causal()).any()
    assert kinds == {True, False}
    assert not torch.equal(change.visible(0, causal()), change.visible(1, causal()))


def test_headmask_silences_its_share_of_all_heads():
    change = VARIANTS["headmask"](ratio=0.25).intervene(BATCH, BOTH, None, SHAPE)
    assert change.silent_heads.shape == (4, 2, 6)
    assert change.silent_heads.sum((0, 2)).tolist() == [6, 6]
    assert not torch.equal(change.silent_heads[:, 0], change.silent_heads[:, 1])
    assert VARIANTS["headmask"](ratio=0.25).intervene(BATCH, FIRST, None, SHAPE).silent_heads.sum((0, 2)).tolist() == [
        6,
        0,
    ]
    assert VARIANTS["headmask"](ratio=0.001).intervene(BATCH, BOTH, None, SHAPE).silent_heads.sum() == 2


def test_meap_hides_answer_tokens_behind_the_mean():
    change = VARIANTS["meap"](ratio=0.5).intervene(BATCH, BOTH, None, SHAPE)
    assert change.layer == 0
    assert not (change.chosen & (BATCH.labels == -100)).any()
    assert 0 < change.chosen.sum() < (BATCH.labels != -100).sum()
    before = torch.randn(2, 26, 8)
    after = change.states(before)
    assert torch.equal(after[~change.chosen], before[~change.chosen])
    for row, place in change.chosen.nonzero().tolist():
        torch.testing.assert_close(after[row, place], before[row][BATCH.valid[row]].mean(0))


def test_neftune_noise_has_the_paper_s_size_and_spares_the_image():
    change = VARIANTS["neftune"](alpha=5.0).intervene(BATCH, BOTH, None, SHAPE)
    before = torch.zeros(2, 26, 512)
    noise = change.states(before)
    changed = (noise != 0).any(-1)
    assert torch.equal(changed, BATCH.valid & ~BATCH.image_mask)
    for row in range(2):
        largest = 5.0 / math.sqrt(int(BATCH.valid[row].sum()) * 512)
        assert 0.98 * largest < noise[row].abs().max() <= largest
        assert abs(float(noise[row][changed[row]].mean())) < 0.1 * largest
    everywhere = VARIANTS["neftune"](tokens="all").intervene(BATCH, BOTH, None, SHAPE).states(before)
    assert torch.equal((everywhere != 0).any(-1), BATCH.valid)


def test_every_variant_names_its_source():
    assert all(VARIANTS[name]().source for name in VARIANTS)
