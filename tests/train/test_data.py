"""Encoded data: read once, shared by subsets, and what could not be used beside it."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from tests.sample_pools import llava_rows, write_pool
from tests.train.helpers import encoded
from vlmsift.errors import UsageError
from vlmsift.models import open_model
from vlmsift.pools import open_image, open_pool
from vlmsift.specs import ModelSpec
from vlmsift.train.data import EncodedData


def test_it_holds_what_the_encoder_gives(data, pool_path, toy):
    pool = open_pool(pool_path)
    encoder = open_model(ModelSpec(toy, device="cpu")).encoder(partial(open_image, root=pool.image_root))
    expected = [encoder.encode(pool[index]) for index in range(len(pool))]
    assert list(data.ids) == list(pool.ids)
    assert list(data.lengths) == [len(one) for one in expected]
    assert list(data.has_image) == [index not in (3, 7) for index in range(10)]
    for place, one in enumerate(expected):
        assert data[place].id == one.id
        assert torch.equal(data[place].input_ids, one.input_ids)
        assert torch.equal(data[place].labels, one.labels)


def test_unusable_samples_are_skipped_with_their_reason(tmp_path, toy):
    rows = llava_rows(5)
    rows[1]["conversations"][1]["value"] = " "
    path = write_pool(tmp_path, rows)
    (tmp_path / "images/3.png").write_bytes(b"no picture")
    found = encoded(path, toy)
    assert list(found.ids) == ["r0", "r2", "r4"]
    assert set(found.skipped) == {"r1", "r3"}
    assert found.skipped["r1"].startswith("empty answer")
    part = found.subset(["r4", "r3", "r0"])
    assert (list(part.ids), set(part.skipped)) == (["r4", "r0"], {"r3"})


def test_a_subset_shares_what_is_in_memory(data):
    part = data.subset(["r5", "r1"])
    assert [part[0].id, part[1].id] == ["r5", "r1"]
    assert part[1] is data[1]
    assert list(part.lengths) == [data.lengths[5], data.lengths[1]]


@pytest.mark.parametrize(("ids", "told"), [(["r1", "nobody"], "'nobody'"), (["r1", "r1"], "'r1' is named twice")])
def test_ids_that_cannot_be_meant(data, ids, told):
    with pytest.raises(UsageError, match=told):
        data.subset(ids)


def test_what_does_not_fit_is_encoded_again_and_equal(data, pool_path, toy):
    one_kept = encoded(pool_path, toy, cache_bytes=30_000)
    nothing_kept = encoded(pool_path, toy, cache_bytes=0)
    assert data.in_memory
    assert not one_kept.in_memory
    assert nothing_kept[2] is not nothing_kept[2]
    for place in range(len(data)):
        assert torch.equal(
            nothing_kept[place].images.get("pixel_values", torch.zeros(0)),
            data[place].images.get("pixel_values", torch.zeros(0)),
        )
        assert torch.equal(one_kept[place].labels, data[place].labels)


def test_an_image_that_vanishes_later_is_told(tmp_path, toy):
    found = encoded(write_pool(tmp_path, llava_rows(2)), toy, cache_bytes=0)
    (tmp_path / "images/1.png").unlink()
    assert found[0].id == "r0"
    with pytest.raises(UsageError, match="'r1' could be read before"):
        found[1]


def test_a_pool_without_a_usable_sample(tmp_path, toy):
    rows = llava_rows(2)
    for row in rows:
        row["image"] = "nowhere.png"
    with pytest.raises(UsageError, match="not one of 2 samples"):
        encoded(write_pool(tmp_path, rows), toy)


def test_no_rows_at_all(pool_path, toy):
    with pytest.raises(UsageError, match="not one of 0 samples"):
        encoded(pool_path, toy, indices=[])


def test_worker_processes_read_the_same(data, pool_path, toy):
    pool = open_pool(pool_path)
    encoder = open_model(ModelSpec(toy, device="cpu")).encoder(partial(open_image, root=pool.image_root))
    found = EncodedData.read(pool, encoder, workers=1)
    assert list(found.ids) == list(data.ids)
    assert all(torch.equal(found[place].input_ids, data[place].input_ids) for place in range(len(data)))


def test_long_samples_are_skipped_never_cut(data):
    most = sorted(data.lengths)[4]
    short = data.without_longer_than(most)
    assert max(short.lengths) <= most
    assert {name for name in data.ids if name not in short.ids} == set(short.skipped)
    assert all(reason.startswith("too long") for reason in short.skipped.values())
    assert data.without_longer_than(10**6) is data


def test_the_fingerprint_knows_the_ids_and_their_order(data):
    one, other = data.subset(["r1", "r2"]).fingerprint(), data.subset(["r2", "r1"]).fingerprint()
    assert one["pool"] == other["pool"] == data.pool.fingerprint()
    assert one["ids"] != other["ids"]
