"""Rankings: kept by content, exact, and readable again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.models.helpers import batch_of, opened, picture, varied
from vlmsift.augment import Rankings
from vlmsift.augment.rankings import keys
from vlmsift.errors import FormatError
from vlmsift.passes.attention_received import AttentionReceived
from vlmsift.passes.capture import Capture
from vlmsift.passes.measure import measure

RANKING = AttentionReceived("answer")


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "smolvlm"])
def test_a_key_does_not_depend_on_the_batch(toy_path, family):
    adapter = opened(toy_path(family))
    samples = varied(family)[:5]
    alone = [keys(batch_of(adapter, [one]))[0] for one in samples]
    assert len(set(alone)) == len(samples)
    if family != "smolvlm":  # its images are cut into tiles of different number, so its keys hold within a batch only
        assert keys(batch_of(adapter, samples)) == alone
        assert keys(batch_of(adapter, samples, "left")) == alone


def test_another_picture_of_the_same_size_is_another_key(toy_path):
    adapter = opened(toy_path("llava"))
    from tests.models.helpers import ask

    first, second = (batch_of(adapter, [ask("a", "what?", "it", f"40x40#{seed}")]) for seed in (1, 2))
    assert keys(first) != keys(second)


def test_filled_from_a_scoring_model_saved_and_loaded(toy_path, tmp_path):
    adapter = opened(toy_path("llava"))
    encoder = adapter.encoder(picture)
    samples = [encoder.encode(one) for one in varied("llava")[:3]]
    rankings = Rankings().fill(adapter, samples, RANKING)
    batch = encoder.collate(samples)
    with Capture(adapter) as capture:
        expected = measure(capture, batch, [RANKING])[RANKING]
    torch.testing.assert_close(rankings.get(batch), expected)
    again = Rankings.load(rankings.save(tmp_path / "rankings.parquet"))
    assert again.known.keys() == rankings.known.keys()
    assert all(np.array_equal(again.known[key], rankings.known[key]) for key in again.known)
    assert torch.equal(again.get(batch), rankings.get(batch))
    assert list(tmp_path.iterdir()) == [tmp_path / "rankings.parquet"]


def test_a_batch_with_a_stranger_is_not_known(toy_path):
    adapter = opened(toy_path("llava"))
    encoder = adapter.encoder(picture)
    samples = [encoder.encode(one) for one in varied("llava")[:3]]
    rankings = Rankings().fill(adapter, samples[:2], RANKING)
    assert rankings.get(encoder.collate(samples[:2])) is not None
    assert rankings.get(encoder.collate(samples)) is None


def test_something_else_is_refused(tmp_path):
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(FormatError, match=r"x.parquet holds no rankings"):
        Rankings.load(tmp_path / "x.parquet")
