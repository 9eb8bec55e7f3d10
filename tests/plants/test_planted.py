"""The planted pool: originals first, then twins, made when they are read."""

from __future__ import annotations

import pytest

from tests.plants.samples import MemoryPool, many, sample
from tests.sample_pools import picture
from vlmsift.errors import SampleError, UsageError
from vlmsift.plants import planted as module
from vlmsift.plants.planted import Planted

POOL = MemoryPool(many(60, text_only=range(40, 60)))


def test_originals_come_first_and_each_row_is_what_its_entry_says():
    pool = Planted(POOL, sample=30, twins=8)
    assert [entry.kind for entry in pool.entries[:30]] == [None] * 30
    by_id = {one.id: one for one in POOL.samples}
    made = 0
    for index, entry in enumerate(pool.entries):
        original = by_id[pool.originals[entry.of].id]
        try:
            row = pool[index]
        except SampleError:
            continue
        made += 1
        assert (
            (row.id, row.index, row.source)
            == (entry.id, index, original.source)
            == (pool.ids[index], index, pool.source(index))
        )
        unchanged = (row.turns, row.images) == (original.turns, original.images)
        assert unchanged == (entry.kind in (None, "duplicate"))
        assert row.id == original.id if entry.kind is None else row.id == f"{original.id}~{entry.kind}"
    assert made >= 0.9 * len(pool)
    assert len(set(pool.ids)) == len(pool) == len(pool.ids)
    assert max(pool.counts().values()) == 8


def test_text_only_samples_have_no_image_twins_and_are_counted():
    pool = Planted(POOL, sample=60, twins=60)
    texts = {place for place, one in enumerate(pool.originals) if not one.images}
    assert len(texts) == 20
    assert "wrong_image: 20 text-only samples have no such twin." in pool.left_out
    for entry in pool.entries:
        assert entry.kind in (None, "wrong_answer", "duplicate") or entry.of not in texts
    assert pool.counts()["wrong_answer"] == 60
    assert pool.counts()["blank_image"] == 40


def test_the_same_seed_draws_the_same_and_other_plants_change_nothing():
    first, again = Planted(POOL, sample=30, twins=8, seed=3), Planted(POOL, sample=30, twins=8, seed=3)
    assert first.ids == again.ids
    assert first.fingerprint() == again.fingerprint()
    alone = Planted(POOL, sample=30, twins=8, seed=3, plants=["cropped_image"])
    rows = {
        one.id: one
        for one in (first[index] for index, entry in enumerate(first.entries) if entry.kind == "cropped_image")
    }
    for index, entry in enumerate(alone.entries):
        if entry.kind is not None:
            assert alone[index].images == rows[entry.id].images
    assert len(alone) == 38
    other = Planted(POOL, sample=30, twins=8, seed=4)
    assert other.ids != first.ids


def test_the_fingerprint_tells_whatever_changes_a_row(monkeypatch):
    plain = Planted(POOL, sample=30, twins=8).fingerprint()
    assert plain != Planted(POOL, sample=31, twins=8).fingerprint()
    assert plain != Planted(POOL, sample=30, twins=9).fingerprint()
    assert plain != Planted(POOL, sample=30, twins=8, seed=1).fingerprint()
    assert plain != Planted(POOL, sample=30, twins=8, plants=["duplicate"]).fingerprint()
    monkeypatch.setattr(MemoryPool, "fingerprint", lambda self: "e" * 64)
    changed = Planted(POOL, sample=30, twins=8).fingerprint()
    assert changed != plain
    monkeypatch.setattr(module, "VERSION", 2)
    assert Planted(POOL, sample=30, twins=8).fingerprint() not in (plain, changed)


def test_a_users_id_that_looks_like_ours_stays_unique():
    samples = many(30)
    samples[0] = sample("s1~duplicate", "yes", [picture(0)])
    pool = Planted(MemoryPool(samples), sample=30, twins=30, plants=["duplicate"])
    assert "s1~duplicate~" in pool.ids
    assert len(set(pool.ids)) == 60


def test_unreadable_rows_and_rows_without_an_answer_are_not_drawn():
    class Torn(MemoryPool):
        def __getitem__(self, index: int):
            if index < 5:
                raise SampleError("malformed row", "torn")
            return super().__getitem__(index)

    samples = many(40)
    samples[7] = sample("mute", "  ", [picture(0)])
    pool = Planted(Torn(samples), sample=40)
    assert len(pool.originals) == 34
    assert "mute" not in pool.ids


def test_a_kind_that_cannot_be_made_is_left_out_with_a_sentence():
    same = MemoryPool([sample(f"s{n}", "yes", [picture(n)]) for n in range(25)])
    pool = Planted(same, sample=25, twins=25)
    assert "wrong_answer: left out, it can be made of none of the 25 samples." in pool.left_out
    assert set(pool.counts()) == {"wrong_image", "blank_image", "cropped_image", "shuffled_image", "duplicate"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"sample": 5}, "sample=5 is too small to calibrate on; draw at least 20"),
        ({"twins": 0}, "twins=0 must be at least 1"),
        ({"plants": ["x"]}, "there is no plant 'x'"),
    ],
)
def test_arguments_that_cannot_be_meant(arguments, sentence):
    with pytest.raises(UsageError, match=sentence):
        Planted(POOL, **arguments)


def test_a_pool_that_is_too_small_or_gives_no_twin():
    with pytest.raises(UsageError, match=r"memory\.json has 19 usable samples; plants need at least 20"):
        Planted(MemoryPool(many(19)))
    texts = MemoryPool(many(25, text_only=range(25)))
    with pytest.raises(UsageError, match=r"nothing could be planted in memory\.json: blank_image: 25 text-only"):
        Planted(texts, plants=["blank_image"])
