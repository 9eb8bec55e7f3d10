"""Items in pool order, whatever reads them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.sample_pools import llava_rows, write_pool
from tests.scoring.large import feed as large_feed
from vlmsift.errors import SampleError, VlmsiftError
from vlmsift.models import Encoded
from vlmsift.pools import Pool, open_pool
from vlmsift.scoring import shared
from vlmsift.scoring.feed import LONG_QUESTION, SHORT_ANSWER, Feed, answer_key, question_key
from vlmsift.types import Sample, Turn

COUNT = 14


@dataclass
class LengthEncoder:
    """Stands for the model's: as many tokens as the question has letters; refuses, fails or dies where told to."""

    refuses: str = ""
    fails: str = ""
    dies: str = ""

    def encode(self, sample: Sample) -> Encoded:
        if sample.id == self.refuses:
            raise SampleError("too long", "by far")
        if sample.id == self.fails:
            raise ZeroDivisionError("division by zero")
        if sample.id == self.dies:
            os._exit(1)
        tokens = torch.arange(len(sample.turns[0].text))
        images = {"pixels": torch.full((2, 3), sample.index / 7), "half": torch.ones(2, dtype=torch.bfloat16)}
        return Encoded(sample.id, tokens, -tokens, tokens % 2, {"kinds": tokens * 2}, images)


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    rows = llava_rows(COUNT, text_only=(3,))
    rows[6] = {"id": "r6", "source": "six", "conversations": "nothing"}
    rows[9]["source"] = "nine"
    return open_pool(write_pool(tmp_path, rows))


@pytest.mark.parametrize("workers", [0, 2])
def test_items_come_in_the_order_asked_for(workers: int, pool: Pool) -> None:
    indices = [4, 3, 6, 0, 13, 9, 1]
    items = list(Feed(pool, LengthEncoder(refuses="r13"), indices, workers))
    assert [item.index for item in items] == indices
    assert [item.facts["id"] for item in items] == [f"r{index}" for index in indices]
    assert [item.facts["images"] for item in items] == [1, 0, 0, 1, 1, 1, 1]
    assert [item.facts["source"] for item in items] == [None, None, "six", None, None, "nine", None]
    assert [item.facts.get("answer_key") for item in items][:3] == ["no", "two", None]
    reasons = {item.index: item.reason for item in items if item.encoded is None}
    assert reasons.pop(6).startswith("malformed row: 'conversations' must be a list")
    assert reasons == {13: "too long: by far"}
    lengths = [len(item.encoded) for item in items if item.encoded is not None]
    assert lengths == [len(pool[item.index].turns[0].text) for item in items if item.reason is None]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_tensor_arrives_as_it_is(workers: int, pool: Pool) -> None:
    for item in Feed(pool, LengthEncoder(), range(3), workers):
        ours, theirs = (vars_of(encoded) for encoded in (item.encoded, LengthEncoder().encode(pool[item.index])))
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert torch.equal(ours[name], value)
            assert ours[name].dtype == value.dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("pages", "shared_ones"), [(0, 0), (6, 2), (999, 12)])
def test_large_tensors_are_shared_as_far_as_there_is_room(
    dtype: torch.dtype, pages: int, shared_ones: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes two pages; all are held to the end."""
    found: list[int] = []
    get = shared.Room.get
    monkeypatch.setattr(shared.Room, "get", lambda room, place: found.append(place.page) or get(room, place))
    size = shared.LARGE * (4 if dtype == torch.bfloat16 else 2)
    many = {"size": size, "dtype": dtype, "count": 12}
    items = list(large_feed(2, **many, shared_bytes=pages * shared.PAGE))
    for item, alone in zip(items, large_feed(0, **many), strict=True):
        ours, theirs = vars_of(item.encoded), vars_of(alone.encoded)
        assert ours["pixels"].dtype == dtype
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert len(found) == shared_ones


def vars_of(encoded: Encoded | None) -> dict[str, torch.Tensor]:
    """All tensors by name."""
    assert encoded is not None
    flat = {name: getattr(encoded, name) for name in ("input_ids", "labels", "image_index")}
    return {**flat, **encoded.rows, **encoded.images}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_rows_surprise_becomes_its_reason(workers: int, pool: Pool) -> None:
    items = list(Feed(pool, LengthEncoder(fails="r2"), range(4), workers))
    assert [item.reason for item in items] == [None, None, "unexpected: ZeroDivisionError: division by zero", None]


def test_a_dead_worker_is_a_sentence(pool: Pool) -> None:
    with pytest.raises(VlmsiftError, match=r"has died.* Start the same command again, with fewer than --workers 1"):
        list(Feed(pool, LengthEncoder(dies="r2"), range(4), 1))


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_asked_for_is_nothing(workers: int, pool: Pool) -> None:
    assert list(Feed(pool, LengthEncoder(), [], workers)) == []


@pytest.mark.parametrize(
    ("answer", "key"),
    [
        ("Yes.", "yes"),
        ("  Two\n dogs ", "two dogs"),
        ("", None),
        ("...", None),
        ("x" * SHORT_ANSWER, "x" * SHORT_ANSWER),
        ("x" * (SHORT_ANSWER + 1), None),
    ],
)
def test_answer_keys(answer: str, key: str | None) -> None:
    turns = (Turn("user", "q"), Turn("assistant", answer))
    assert answer_key(Sample("a", 0, turns, (), None, {})) == key


@pytest.mark.parametrize(
    ("turns", "key"),
    [
        ([("user", "<image>\n Is it  RED?"), ("assistant", "yes")], "is it red?"),
        ([("user", "first?"), ("assistant", "a"), ("user", "Second?"), ("assistant", "b")], "second?"),
        ([("user", "first?"), ("assistant", "a"), ("user", "unanswered?")], "first?"),
        ([("system", "be brief"), ("assistant", "a")], None),
        ([("user", "<image>"), ("assistant", "a")], None),
        ([("user", "never answered")], None),
        ([("user", "a" * 500 + "z" * 500), ("assistant", "b")], f"{'a' * 120} {'z' * 120}"),
    ],
)
def test_question_keys(turns: list[tuple[Any, str]], key: str | None) -> None:
    sample = Sample("a", 0, tuple(Turn(role, text) for role, text in turns), (), None, {})
    assert question_key(sample) == key
    assert key is None or len(key) <= LONG_QUESTION + 1
