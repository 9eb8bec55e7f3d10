"""A pool: guessing the format, ids, sources, the fingerprint, and reasons for rows that cannot be used."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.pools.helpers import llava_row, text_pool, varied_llava_rows, write
from vlmsift.errors import FormatError, SampleError, UsageError
from vlmsift.pools import open_pool
from vlmsift.pools.fingerprint import _digest
from vlmsift.specs import PoolSpec

CONTAINERS = ["json", "jsonl", "parquet", "dataset"]
TURNS = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
CHAT = [{"role": "user", "content": "<image>q"}, {"role": "assistant", "content": "a"}]


@pytest.mark.parametrize(
    ("rows", "format"),
    [
        ([{"conversations": TURNS}], "llava"),
        ([{"conversations": TURNS}, llava_row(0)], "llava"),
        ([{"conversations": TURNS, "images": []}], "sharegpt"),
        ([{"messages": CHAT, "images": ["a.png"]}], "sharegpt"),
        ([{"messages": CHAT[1:], "images": []}] * 5 + [{"messages": CHAT, "images": ["a.png"]}], "sharegpt"),
        ([{"messages": CHAT[1:]}], "messages"),
        ([{"messages": CHAT[1:], "images": ["a.png"]}], "messages"),
        ([{"messages": [{"role": "user", "content": [{"type": "image"}]}], "images": ["a.png"]}], "messages"),
        ([{"other": 1}, {"conversations": TURNS}], "llava"),
    ],
)
def test_the_format_is_guessed(rows: list[dict[str, Any]], format: str, tmp_path: Path) -> None:
    assert open_pool(write(tmp_path, rows, "json")).format == format


def test_a_format_may_be_named(tmp_path: Path) -> None:
    path = write(tmp_path, [{"messages": CHAT, "images": ["a.png"]}], "json")
    assert open_pool(PoolSpec(path, format="messages")).format == "messages"
    with pytest.raises(UsageError, match="no format 'alpaca'; known are llava, messages, sharegpt"):
        open_pool(PoolSpec(path, format="alpaca"))


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_failed_guess_names_what_it_saw(container: str, tmp_path: Path) -> None:
    path = write(tmp_path, [{"question": "q", "answer": 1, "img": ["a.png"]}], container)
    with pytest.raises(FormatError, match=r"'question' \(str\), 'answer' \(int\), 'img' \(list\)") as caught:
        open_pool(path)
    for word in ("conversations", "messages", "images", "format=", str(path)):
        assert word in str(caught.value)


def test_a_pool_without_one_readable_row(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no fields that can be read"):
        open_pool(text_pool(tmp_path, "not json\nnor this", "pool.jsonl"))


@pytest.mark.parametrize("container", CONTAINERS)
def test_samples_are_equal_from_every_container(container: str, tmp_path: Path) -> None:
    rows = varied_llava_rows()
    pool = open_pool(write(tmp_path, rows, container))
    samples = [pool[index] for index in range(len(pool))]
    assert [sample.id for sample in samples] == ["r0", "text", "several", "r3"] == list(pool.ids)
    assert [sample.index for sample in samples] == [0, 1, 2, 3]
    assert [sample.images for sample in samples] == [("images/0.png",), (), ("a.png", "b/c.jpg"), ("images/3.png",)]
    assert [sample.source for sample in samples] == ["vqa", None, "pairs", None]
    assert [len(sample.turns) for sample in samples] == [4, 2, 3, 4]
    assert samples[2].turns[0].role == "system"
    assert [sample.answer for sample in samples] == ["Yes, 0.", "", "The first.", "Yes, 3."]
    present = [{key: value for key, value in sample.row.items() if value is not None} for sample in samples]
    assert present == rows
    assert pool[-1] == pool[3]
    for index in (4, -5):
        with pytest.raises(IndexError):
            pool[index]


@pytest.mark.parametrize("container", CONTAINERS)
def test_ids_of_any_type(container: str, tmp_path: Path) -> None:
    rows = [{"id": given, "conversations": TURNS} for given in (7, None, 7, 12345678901)]
    assert list(open_pool(write(tmp_path, rows, container)).ids) == ["7", "row-1", "7#2", "12345678901"]


def test_ids_of_mixed_types(tmp_path: Path) -> None:
    given = [1, "1", 1.0, True, None, "", {"a": [1]}, "row-4", 1]
    rows = [{"id": value, "conversations": TURNS} for value in given] + [{"conversations": TURNS, "uid": "u"}]
    expected = ["1", "1#2", "1.0", "true", "row-4#2", "row-5", '{"a":[1]}', "row-4", "1#3", "u"]
    assert list(open_pool(write(tmp_path, rows, "json")).ids) == expected


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_source_field(container: str, tmp_path: Path) -> None:
    rows = [
        llava_row(0, task="vqa", dataset="coco", part=3),
        llava_row(1, task=None, dataset="gqa", part=None),
        llava_row(2, task="", dataset=None, part=4),
    ]
    path = write(tmp_path, rows, container)
    assert [open_pool(path).source(index) for index in range(3)] == ["vqa", "gqa", None]
    named = open_pool(PoolSpec(path, source_field="part"))
    assert [named.source(index) for index in range(3)] == ["3", None, "4"]
    with pytest.raises(UsageError, match=r"no row .* has a field 'split'; the first one has: 'id' \(str\)"):
        open_pool(PoolSpec(path, source_field="split"))


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_fingerprint_is_of_the_content(container: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    rows = varied_llava_rows()
    pool = open_pool(write(tmp_path / "a", rows, container))
    same = open_pool(write(tmp_path / "b", rows, container, "other name"))
    for file in same.path.rglob("*"):
        os.utime(file, (0, 0))
    assert len(pool.fingerprint()) == 64
    assert pool.fingerprint() == same.fingerprint()
    rows[-1]["conversations"][-1]["value"] += "!"
    assert open_pool(write(tmp_path / "b", rows, container)).fingerprint() != pool.fingerprint()


def test_the_fingerprint_covers_every_part(tmp_path: Path) -> None:
    for part in range(2):
        write(tmp_path, [llava_row(part)], "jsonl", str(part))
    before = open_pool(tmp_path).fingerprint()
    write(tmp_path, [llava_row(9)], "jsonl", "1")
    assert open_pool(tmp_path).fingerprint() != before


def test_the_bytes_are_read_once_until_they_change(tmp_path: Path) -> None:
    path = write(tmp_path, [llava_row(0)], "jsonl")
    os.utime(path, (10**9, 10**9))
    pool, reads = open_pool(path), _digest.cache_info().misses
    assert len({pool.fingerprint(), pool.fingerprint(), open_pool(path).fingerprint()}) == 1
    assert _digest.cache_info().misses == reads + 1
    found = []
    tick = time.time_ns() + 10**12
    for name in ("r1", "r2", "r3"):  # of one size, and within one tick of the clock
        path.write_text(path.read_text().replace(found[-1][0] if found else "r0", name))
        os.utime(path, ns=(tick, tick))
        found.append((name, pool.fingerprint()))
    assert len({digest for _, digest in found}) == 3


def test_what_is_no_path(tmp_path: Path) -> None:
    import datasets

    pool = open_pool(write(tmp_path, [llava_row(0)], "json"))
    assert open_pool(pool) is pool
    with pytest.raises(UsageError, match=r"a Dataset is no pool: call its save_to_disk\(FOLDER\) and give the path"):
        open_pool(datasets.Dataset.from_list([llava_row(0)]))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a list is no pool: write its rows to a file, and give the path"):
        open_pool([llava_row(0)])  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    for path in (tmp_path / "rows.jsonl", tmp_path):
        with pytest.raises(FormatError, match=r"rows\.jsonl: a pipe, a socket or a device, not a file"):
            open_pool(path)


def test_a_text_beyond_all_measure_is_a_reason(tmp_path: Path) -> None:
    """It would keep templates and tokenizers busy for minutes. The file is split in time all the same."""
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": 'a "b" ' * 2_000_000}]
    text = json.dumps([{"id": "long", "conversations": turns, "nan": float("nan")}, llava_row(0)])
    started = time.monotonic()
    pool = open_pool(text_pool(tmp_path, text))
    assert list(pool.ids) == ["long", "r0"]
    with pytest.raises(
        SampleError, match=r"text too long: 12,000,001 characters, the limit is 1,000,000; split it, or drop"
    ):
        pool[0]
    assert time.monotonic() - started < 60
    assert len(pool[1].turns) == 4


def test_the_image_folder(tmp_path: Path) -> None:
    path = write(tmp_path, [llava_row(0)], "json")
    assert open_pool(path).image_root == tmp_path
    assert open_pool(PoolSpec(path, images=tmp_path.parent)).image_root == tmp_path.parent
    with pytest.raises(UsageError, match=r"no image folder .*nowhere"):
        open_pool(PoolSpec(path, images=tmp_path / "nowhere"))


def test_half_a_character_is_a_reason(tmp_path: Path) -> None:
    text = json.dumps([{"id": "x", "conversations": [{"from": "gpt", "value": "\ud83d"}]}])
    pool = open_pool(text_pool(tmp_path, text))
    with pytest.raises(SampleError, match=r"half a character \('\\ud83d'\)"):
        pool[0]


def test_a_row_that_cannot_be_used_stops_no_other(tmp_path: Path) -> None:
    rows = [llava_row(0), llava_row(1, video="a.mp4"), {"id": "none", "image": "a.png"}, llava_row(3, image=["a", "b"])]
    pool = open_pool(write(tmp_path, rows, "json"))
    reasons = {}
    for index in range(len(pool)):
        try:
            pool[index]
        except SampleError as error:
            reasons[pool.ids[index]] = str(error)
    kinds = {name: reason.partition(":")[0] for name, reason in reasons.items()}
    assert kinds == {"r1": "videos are not supported yet", "none": "no turns", "r3": "wrong image count"}
