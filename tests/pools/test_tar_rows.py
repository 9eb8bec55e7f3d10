"""WebDataset archives: what members become of a row, what is copied, what is refused; on a disk and in a store."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.object_store import counted
from tests.pools.helpers import llava_row, meaning, png, varied_llava_rows, write
from tests.sample_pools import llava_rows, picture, write_pool
from vlmsift.errors import FormatError, SampleError
from vlmsift.places import StorePath
from vlmsift.pools import Pool, open_pool
from vlmsift.pools.local_copies import local_files
from vlmsift.pools.tar_rows import copy_texts
from vlmsift.types import Turn

Members = Sequence[tuple[str, bytes]]


@pytest.fixture(autouse=True)
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))


def archive(path: Path, members: Members, format: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format) as file:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uname = len(content), 1_700_000_000, "somebody"
            file.addfile(member, io.BytesIO(content))
    return path


def of(row: Any) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode()


def said(index: int, **extra: Any) -> bytes:
    row = {**llava_row(index), **extra}
    return of({key: value for key, value in row.items() if value is not None})


def sample(tmp_path: Path, *members: tuple[str, bytes]) -> Any:
    return open_pool(archive(tmp_path / "one.tar", members), format="llava")[0]


def test_members_of_one_name_are_one_row(tmp_path: Path) -> None:
    members = [
        ("./train/000.jpg", png("red")),
        ("./train/000.json", said(0, id=None)),
        ("train/001.json", said(1)),
        ("train/001.PNG", png("blue")),
        ("train/001.cls", b"7"),
        ("train/.hidden", b"x"),
    ]
    pool = open_pool(archive(tmp_path / "shard.tar", members))
    assert (pool.container, pool.format, list(pool.ids)) == ("tar", "llava", ["train/000", "r1"])
    assert [one[2] for one in meaning(pool)] == [(png("red"),), (png("blue"),)]
    assert pool[0].row["image"] == {"bytes": png("red"), "path": "images/0.png"}


def test_a_caption_is_what_is_to_be_said(tmp_path: Path) -> None:
    one = sample(tmp_path, ("a.jpg", png()), ("a.txt", "Ein Bär.\n".encode()))
    assert one.turns == (Turn("user", "<image>"), Turn("assistant", "Ein Bär."))
    assert (one.id, one.images) == ("a", (png(),))


def test_several_images_go_where_their_names_stand(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "<image><image>"}, {"from": "gpt", "value": "x"}]
    pictures = [("a.left.png", png("red")), ("a.right.png", png("blue"))]
    for images in (["right.png", "left.png"], ["a.right.png", "left.png"]):
        row = {"images": images, "conversations": turns}
        assert sample(tmp_path, ("a.json", of(row)), *pictures).images == (png("blue"), png("red"))
    in_order = {"images": ["x/1.png", "x/2.png"], "conversations": turns}
    assert sample(tmp_path, ("a.json", of(in_order)), *pictures).images == (png("red"), png("blue"))
    assert sample(tmp_path, ("a.json", of({"conversations": turns})), *pictures).images == (png("red"), png("blue"))


def test_members_that_do_not_fit_make_an_unreadable_row(tmp_path: Path) -> None:
    for members, why in (
        ([("a.json", said(0, image=["1.png", "2.png"])), ("a.png", png())], "wrong image count: 'image' lists 2"),
        ([("a.json", b"{"), ("a.png", png())], "unreadable row: its .json is not JSON"),
        ([("a.json", b"[1]"), ("a.png", png())], "unreadable row: its .json is a list"),
        ([("a.json", said(0, image=None))], "wrong image count"),
    ):
        with pytest.raises(SampleError, match=why):
            sample(tmp_path, *members)


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_a_copy_holds_the_members_byte_for_byte(format: int, tmp_path: Path) -> None:
    name = "n" * (120 if format != tarfile.USTAR_FORMAT else 20)  # too long for a plain header
    members = [
        (f"{name}{row}.{kind}", said(row) if kind == "json" else png())
        for row in range(4)
        for kind in ("json", "png", "npy")
    ]
    pool = open_pool(archive(tmp_path / "pool.tar", members, format))
    out = pool.export([2, 0], tmp_path / "kept.tar")
    with tarfile.open(pool.path) as before, tarfile.open(out) as after:
        own = [(one.get_info(), before.extractfile(one).read()) for one in before.getmembers()]  # type: ignore[union-attr]
        kept = [(one.get_info(), after.extractfile(one).read()) for one in after.getmembers()]  # type: ignore[union-attr]
    assert kept == own[6:9] + own[:3]
    assert out.read_bytes().endswith(bytes(1024))  # as an archive has to
    whole = pool.export(range(4), tmp_path / "whole.tar")
    assert whole.read_bytes().rstrip(b"\0") == pool.path.read_bytes().rstrip(b"\0")


def test_from_and_to_other_containers(tmp_path: Path) -> None:
    path = write_pool(tmp_path, llava_rows(6, text_only=(2,)), "pool.jsonl")
    source = open_pool(path)
    packed = open_pool(source.export(range(6), tmp_path / "packed.tar"))
    assert [one[:2] for one in meaning(packed)] == [one[:2] for one in meaning(source)]
    assert packed[1].images == (picture(1),)
    assert packed[1].row["meta"] == source[1].row["meta"]
    for name, format in (("a.jsonl", None), ("a.parquet", None), ("b.jsonl", "messages"), ("c.tar", "sharegpt")):
        again = open_pool(packed.export(range(6), tmp_path / name, format=format))
        assert [one[:2] for one in meaning(again)] == [one[:2] for one in meaning(source)]


@pytest.mark.parametrize("format", ["messages", "sharegpt"])
def test_other_formats_are_packed_too(format: str, tmp_path: Path) -> None:
    path = write_pool(tmp_path, llava_rows(3), "pool.jsonl")
    source = open_pool(open_pool(path).export(range(3), tmp_path / "other.jsonl", format=format), images=tmp_path)
    packed = open_pool(source.export(range(3), tmp_path / "packed.tar"), format=format)
    assert [one[:2] for one in meaning(packed)] == [one[:2] for one in meaning(source)]
    assert [packed[index].images for index in range(3)] == [(picture(index),) for index in range(3)]


def test_a_row_whose_image_is_missing_is_not_packed(tmp_path: Path) -> None:
    pool = open_pool(write(tmp_path, varied_llava_rows(), "jsonl"))
    with pytest.raises(FormatError, match="cannot be packed: missing image"):
        pool.export([0], tmp_path / "packed.tar")
    assert not (tmp_path / "packed.tar").exists()


def test_a_text_that_is_called_like_a_member_is_not_packed(tmp_path: Path) -> None:
    """Read back, it would be an image: the proof before it is written says so."""
    row = {**llava_row(0), "image": png()}
    row["conversations"][1]["value"] = "0.png"
    pool = open_pool(write(tmp_path, [row], "parquet"))
    with pytest.raises(FormatError, match="cannot go into a tar archive"):
        pool.export([0], tmp_path / "packed.tar")


@pytest.mark.parametrize("cut", [100, 700, 1536 + 40, 4000])
def test_an_archive_that_is_cut_off(cut: int, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", [("a.json", said(0)), ("a.png", bytes(5000))])
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(FormatError, match="not a whole tar archive"):
        open_pool(path)


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StorePath:
    if request.param == "memory":
        return StorePath(f"memory://{tmp_path.name}/shards")
    return StorePath(request.getfixturevalue("s3_url"))


def shards(tmp_path: Path, store: StorePath) -> tuple[Pool, Pool]:
    """Two archives of five rows on a disk and in a store."""
    (tmp_path / "shards").mkdir()
    for shard in range(2):
        members = []
        for row in range(5 * shard, 5 * shard + 5):
            members += [(f"{row:03}.png", picture(row, side=120)), (f"{row:03}.json", said(row))]
        path = archive(tmp_path / "shards" / f"{shard}.tar", members)
        (store / path.name).write_bytes(path.read_bytes())
    return open_pool(tmp_path / "shards"), open_pool(store)


def test_shards_in_a_store(store: StorePath, tmp_path: Path) -> None:
    here, there = shards(tmp_path, store)
    assert meaning(there) == meaning(here)
    assert there.fingerprint() == here.fingerprint()
    again = pickle.loads(pickle.dumps(there))  # noqa: S301 - our own
    assert again[7].images == (picture(7, side=120),)
    out = there.export([8, 1], f"{store}-kept/a.tar")
    assert out.read_bytes() == here.export([8, 1], tmp_path / "a.tar").read_bytes()


def test_the_copy_of_a_shard_has_holes_where_the_images_are(tmp_path: Path) -> None:
    store = StorePath(f"memory://{tmp_path.name}/shards")
    shards(tmp_path, store)
    (copy,) = local_files([store / "0.tar"], copy_texts)
    with tarfile.open(copy) as ours, tarfile.open(tmp_path / "shards" / "0.tar") as whole:
        for mine, own in zip(ours.getmembers(), whole.getmembers(), strict=True):
            same = ours.extractfile(mine).read() == whole.extractfile(own).read()  # type: ignore[union-attr]
            assert same == mine.name.endswith("json")


def test_a_row_of_a_store_costs_one_request_for_its_images(s3_url: str, tmp_path: Path) -> None:
    _, pool = shards(tmp_path, StorePath(s3_url))
    pool[0]
    with counted() as requests:
        assert [pool[row].images for row in (1, 4, 2)] == [(picture(row, side=120),) for row in (1, 4, 2)]
    assert len(requests) == 3
    with counted() as requests:
        assert len(set(pool.ids)) == 10
    assert requests == []
