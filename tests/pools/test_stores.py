"""Pools, images and exports in a store: the same as on a disk, whatever the container; what is refused, and how."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.object_store import counted
from tests.pools.helpers import SUFFIXES, llava_row, meaning, png, varied_llava_rows, write
from tests.sample_pools import llava_rows, picture, write_pool
from vlmsift.errors import FormatError, SampleError, StoreError, UsageError
from vlmsift.places import StorePath
from vlmsift.pools import open_image, open_pool
from vlmsift.scoring.job import fingerprint_images


@pytest.fixture(autouse=True)
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where local copies go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StorePath:
    """A folder of this test's own in a store."""
    if request.param == "memory":
        return StorePath(f"memory://{tmp_path.name}/pools")
    return StorePath(request.getfixturevalue("s3_url"))


def upload(local: Path, place: StorePath) -> StorePath:
    """A file, or a folder with all that is in it, into a store."""
    for file in [local] if local.is_file() else sorted(local.rglob("*")):
        if file.is_file():
            target = place if file == local else place / file.relative_to(local).as_posix()
            target.write_bytes(file.read_bytes())
    return place


@pytest.mark.parametrize("container", SUFFIXES)
def test_a_pool_in_a_store_is_the_same_as_on_a_disk(container: str, store: StorePath, tmp_path: Path) -> None:
    local = open_pool(write(tmp_path, varied_llava_rows(), container), images=tmp_path)
    there = open_pool(str(upload(local.path, store / local.path.name)))
    assert (there.container, there.format) == (local.container, local.format)
    assert meaning(there) == meaning(local)
    assert there.fingerprint() == local.fingerprint()


@pytest.mark.parametrize("container", ["parquet", "jsonl"])
def test_parts_in_a_folder_of_a_store(container: str, store: StorePath, tmp_path: Path) -> None:
    for part in range(3):
        rows = [llava_row(2 * part + index) for index in range(2)]
        upload(write(tmp_path, rows, container), store / f"part-{part}{SUFFIXES[container]}")
    pool = open_pool(str(store))
    assert list(pool.ids) == [f"r{index}" for index in range(6)]
    assert pool[5].turns[-1].text == "Yes, 5."


@pytest.mark.parametrize("container", [*SUFFIXES, "tar"])
def test_an_export_into_a_store_is_the_same_as_on_a_disk(container: str, store: StorePath, tmp_path: Path) -> None:
    rows = [{**llava_row(index), "image": png(color)} for index, color in enumerate(("red", "blue", "lime"))]
    pool = open_pool(write(tmp_path, rows, "parquet"))
    suffix = {**SUFFIXES, "tar": ".tar"}[container]
    name = f"kept{suffix}"
    here, there = pool.export([2, 0], tmp_path / name), pool.export([2, 0], f"{store}/{name}")
    assert str(there) == f"{store}/{name}".rstrip("/")
    ours, theirs = open_pool(there), open_pool(here)
    assert meaning(ours) == meaning(theirs)
    assert ours.fingerprint() == theirs.fingerprint()
    assert [open_image(s.images[0], ours.image_root).getpixel((0, 0)) for s in (ours[0], ours[1])] == [
        (0, 255, 0),
        (255, 0, 0),
    ]
    pool.export([1], f"{store}/{name}")  # in its place
    assert list(open_pool(there).ids) == ["r1"]


def test_images_lie_beside_the_pool_or_in_a_place_of_their_own(store: StorePath, tmp_path: Path) -> None:
    path = write_pool(tmp_path / "home", llava_rows(3), "pool.jsonl")
    upload(tmp_path / "home", store)
    for pool, images in ((store / "pool.jsonl", None), (path, store), (store / "pool.jsonl", path.parent)):
        opened = open_pool(str(pool), images=images and str(images))
        assert fingerprint_images(opened) == fingerprint_images(open_pool(path))
        assert open_image(opened[1].images[0], opened.image_root).size == (25, 24)
    assert open_image(f"{store}/images/1.png", store).size == (25, 24)


@pytest.mark.parametrize(
    ("ref", "kind"),
    [
        ("../secret.png", "outside the image folder"),
        ("sub/../../secret.png", "outside the image folder"),
        ("/secret.png", "outside the image folder"),
        ("s3://other/secret.png", "image is a link"),
        ("{store}-too/secret.png", "image is a link"),
        ("{store}/../secret.png", "outside the image folder"),
        ("none.png", "missing image"),
        ("sub", "missing image"),
        ("broken.png", "broken image"),
    ],
)
def test_only_images_below_the_root_are_opened(ref: str, kind: str, store: StorePath) -> None:
    root = store / "images"
    (root / "sub" / "a.png").write_bytes(png())
    (root / "broken.png").write_bytes(b"no picture")
    for place in (store / "secret.png", StorePath(f"{root}-too") / "secret.png"):
        place.write_bytes(png())
    assert open_image("sub/a.png", root).size == (4, 3)
    with pytest.raises(SampleError) as raised:
        open_image(ref.format(store=root), root)
    assert raised.value.kind == kind


def test_a_store_that_does_not_give_an_image_is_named_in_the_reason(memory: StorePath) -> None:
    stalls = StoreError("store unreachable", "no answer. Start again.")
    with (
        patch.object(StorePath, "read_bytes", side_effect=stalls),
        pytest.raises(SampleError, match=r"'a.png': no answer. Start again.") as raised,
    ):
        open_image("a.png", memory)
    assert raised.value.kind == "image not fetched, store unreachable"


@pytest.fixture
def memory(tmp_path: Path) -> StorePath:
    return StorePath(f"memory://{tmp_path.name}/pools")


def test_text_is_copied_once_and_again_when_it_changes(memory: StorePath, copies: Path) -> None:
    path = memory / "pool.jsonl"
    path.write_bytes(json.dumps(llava_row(0)).encode())
    assert list(open_pool(path).ids) == ["r0"]
    with (
        patch.object(StorePath, "read_bytes", side_effect=AssertionError),
        patch("vlmsift.pools.local_copies._copy_all", side_effect=AssertionError, __name__="_copy_all"),
    ):
        assert list(open_pool(path).ids) == ["r0"]
    path.write_bytes(json.dumps(llava_row(1)).encode())
    assert list(open_pool(path).ids) == ["r1"]
    (home,) = copies.iterdir()
    assert len(list(home.iterdir())) == 2
    assert home.stat().st_mode & 0o777 == 0o700


def test_copies_go_to_no_folder_that_others_can_write_to(memory: StorePath, copies: Path) -> None:
    (memory / "pool.jsonl").write_bytes(json.dumps(llava_row(0)).encode())
    home = copies / f"vlmsift-{os.getuid()}"
    home.mkdir()
    home.chmod(0o777)
    with pytest.raises(UsageError, match="TMPDIR"):
        open_pool(memory / "pool.jsonl")


def test_a_file_without_room_for_its_copy_is_refused(memory: StorePath) -> None:
    (memory / "pool.jsonl").write_bytes(json.dumps(llava_row(0)).encode())
    with (
        patch("shutil.disk_usage", return_value=SimpleNamespace(free=10)),
        pytest.raises(UsageError, match=r"where 10 are free.*TMPDIR"),
    ):
        open_pool(memory / "pool.jsonl")


def test_what_is_not_there_is_told_with_what_is(store: StorePath) -> None:
    (store / "other.jsonl").write_bytes(b"{}")
    with pytest.raises(FormatError, match=r"none.jsonl: no such file or folder. .* holds: other.jsonl"):
        open_pool(store / "none.jsonl")
    upload_rows(store / "pool.jsonl")
    with pytest.raises(UsageError, match=r"no image folder .*/pictures"):
        open_pool(store / "pool.jsonl", images=store / "pictures")


def test_a_bucket_that_is_not_there(s3_url: str) -> None:
    with pytest.raises(FormatError, match=r"Nor is there s3://nosuchbucket. Look at its name"):
        open_pool("s3://nosuchbucket/pool.jsonl")
    pool = open_pool(upload_rows(StorePath(s3_url) / "pool.jsonl"))
    with pytest.raises(StoreError, match=r"no such bucket: s3://nosuchbucket is not there"):
        pool.export([0], "s3://nosuchbucket/kept.jsonl")


def upload_rows(path: StorePath) -> StorePath:
    path.write_bytes(json.dumps(llava_row(0)).encode())
    return path


def test_an_export_destroys_nothing_in_a_store(store: StorePath, tmp_path: Path) -> None:
    pool = open_pool(upload_rows(store / "pool.jsonl"))
    (store / "notes.gz").write_bytes(b"\x1f\x8b mine")
    (store / "full" / "notes.txt").write_bytes(b"mine")
    for out, why in (
        (store / "pool.jsonl", "is the pool or lies in it"),
        (store / "notes.gz", "no export wrote it"),
        (store / "full", "holds other things"),
    ):
        with pytest.raises(UsageError, match=why):
            pool.export([0], out)
    assert (store / "notes.gz").read_bytes() == b"\x1f\x8b mine"


def test_an_export_that_fails_leaves_what_was_there(store: StorePath) -> None:
    pool = open_pool(upload_rows(store / "pool.jsonl"))
    out = pool.export([0], store / "kept.jsonl")
    before = out.read_bytes()
    with (
        patch("vlmsift.pools.export.write_text", side_effect=OSError("disk full")),
        pytest.raises(OSError, match="full"),
    ):
        pool.export([0], out, format="messages")
    assert out.read_bytes() == before
    assert [place.name for place in store.iterdir() if place.name.startswith("kept")] == ["kept.jsonl"]


def test_a_saved_data_set_that_is_half_replaced_is_none(memory: StorePath) -> None:
    pool = open_pool(upload_rows(memory / "pool.jsonl"))
    out = pool.export([0], f"{memory}/kept/")
    assert list(open_pool(out).ids) == ["r0"]
    own = StorePath.write_bytes

    def failing(self: StorePath, content: bytes) -> None:
        if self.name == "dataset_info.json":
            raise StoreError("store unreachable", "no answer")
        own(self, content)

    with patch.object(StorePath, "write_bytes", failing), pytest.raises(StoreError, match="no answer"):
        pool.export([0], out)
    assert (out / "data-00000-of-00001.arrow").exists()
    with pytest.raises(FormatError, match="is no saved data set"):
        open_pool(out)


def test_a_forked_process_opens_parquet_anew(memory: StorePath, tmp_path: Path) -> None:
    pool = open_pool(upload(write(tmp_path, [llava_row(0)], "parquet"), memory / "pool.parquet"))
    rows, opened = pool._rows, StorePath.open
    with patch.object(StorePath, "open", autospec=True, side_effect=opened) as asked:
        assert len(list(rows.fields(["id"]))) == 1
        assert asked.call_count == 0  # this process's own is open
        with patch("os.getpid", return_value=-1):
            assert len(list(rows.fields(["id"]))) == 1
        assert asked.call_count == 1


def test_a_row_group_is_one_of_few_requests(s3_url: str, tmp_path: Path) -> None:
    """Parquet is read by row group: the rows of one cost no more requests than the first of them."""
    rows = [{**llava_row(index), "image": picture(index)} for index in range(100)]
    pq.write_table(pa.Table.from_struct_array(pa.array(rows)), tmp_path / "pool.parquet", row_group_size=20)
    pool = open_pool(upload(tmp_path / "pool.parquet", StorePath(s3_url) / "pool.parquet"))
    assert len(pool.ids) == 100
    with counted() as first:
        assert pool[0].images == (picture(0),)
    with counted() as same:
        assert pool[19].images == (picture(19),)
    with counted() as next_group:
        assert pool[20].images == (picture(20),)
    assert (len(same), 0 < len(first) <= 3, 0 < len(next_group) <= 3) == (0, True, True)
