"""Opening a path: every wrong one is answered with a sentence that says what was found and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pools.helpers import llava_row, text_pool, write
from vlmsift.errors import FormatError
from vlmsift.pools import open_pool


def test_nothing_there_says_what_is(tmp_path: Path) -> None:
    (tmp_path / "other.json").touch()
    with pytest.raises(FormatError, match=r"no such file or folder.*holds: other\.json"):
        open_pool(tmp_path / "pool.json")
    with pytest.raises(FormatError, match="Nor is there a folder"):
        open_pool(tmp_path / "no" / "pool.json")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("text", ["", " \n \n", "\ufeff", "[]"])
def test_an_empty_pool(name: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="holds no rows"):
        open_pool(text_pool(tmp_path, text, name))


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (b"\x1f\x8b\x08", "gunzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"PK\x03\x04", "zip archive"),
        (b"\xff\xfe[\0", "UTF-8"),
        (b"\xfe\xff\0[", "UTF-8"),
        (b"ARROW1\0\0", "save_to_disk"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_a_file_of_another_kind(start: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=reason):
        open_pool(text_pool(tmp_path, start + b"....", "pool.json"))


def test_a_parquet_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="not a Parquet file: it starts with b'hello'"):
        open_pool(text_pool(tmp_path, "hello", "pool.parquet"))


def test_a_folder_without_rows(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(FormatError, match=r"no saved data set\. .* holds: data/"):
        open_pool(tmp_path)
    with pytest.raises(FormatError, match="is empty"):
        open_pool(tmp_path / "data")


def test_a_folder_of_two_kinds(tmp_path: Path) -> None:
    write(tmp_path, [llava_row(0)], "jsonl")
    write(tmp_path, [llava_row(0)], "parquet")
    with pytest.raises(FormatError, match="both"):
        open_pool(tmp_path)


def test_a_path_with_spaces(tmp_path: Path) -> None:
    folder = tmp_path / "my data – ä"
    folder.mkdir()
    for container in ("json", "jsonl", "parquet", "dataset"):
        pool = open_pool(write(folder, [llava_row(0)], container, "the pool"))
        assert (pool.container, pool[0].id) == (container, "r0")
