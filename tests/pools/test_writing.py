"""Files that appear whole or not at all, and images kept under the hash of their content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pools.helpers import png
from vlmsift.pools.writing import ImageFolder, remove_leftovers, replacing, write_text


def fail(out: Path, begin: Callable[[Path], object]) -> None:
    """Begin to write `out`, then fail."""
    with replacing(out) as temporary:
        begin(temporary)
        raise KeyError


def test_a_file_appears_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.txt"
    with replacing(out) as temporary:
        temporary.write_text("x")
        assert temporary.parent == out.parent
        assert not out.exists()
    assert out.read_text() == "x"
    assert list(out.parent.iterdir()) == [out]


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    out.write_text("old")
    with pytest.raises(KeyError):
        fail(out, lambda temporary: temporary.write_text("half"))
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_is_replaced_and_an_error_leaves_the_old_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for content in ("first", "second"):
        with replacing(out) as temporary:
            temporary.mkdir()
            (temporary / content).touch()
    with pytest.raises(KeyError):
        fail(out, Path.mkdir)
    assert [part.name for part in tmp_path.iterdir()] == ["out"]
    assert [part.name for part in out.iterdir()] == ["second"]


def test_half_a_character_is_escaped(tmp_path: Path) -> None:
    write_text([{"a": "ä"}, {"a": "ä\ud83d"}], tmp_path / "out.jsonl", "jsonl")
    assert (tmp_path / "out.jsonl").read_text("utf-8") == '{"a": "ä"}\n{"a": "\\u00e4\\ud83d"}\n'


def test_equal_images_are_one_file_with_its_kind(tmp_path: Path) -> None:
    folder = ImageFolder(tmp_path / "my.out.json")
    paths = [folder.keep(image) for image in (png("red"), png("blue"), png("red"), b"\xff\xd8\xff.", b"???")]
    assert paths[0] == paths[2]
    assert [Path(path).suffix for path in paths] == [".png", ".png", ".png", ".jpg", ".bin"]
    assert {str(part.relative_to(tmp_path)) for part in (tmp_path / "my.out_images").iterdir()} == set(paths)
    assert (tmp_path / paths[1]).read_bytes() == png("blue")


def test_bytes_anywhere_in_a_row_become_paths(tmp_path: Path) -> None:
    folder = ImageFolder(tmp_path / "out.json")
    path = folder.keep(png())
    row = {
        "image": png(),
        "images": [{"bytes": png(), "path": "x"}, {"bytes": None, "path": "y.png"}, {"bytes": None, "path": None}],
        "deep": [{"deeper": [png(), "text", 1, None]}],
    }
    assert folder.unpack(row) == {
        "image": path,
        "images": [path, "y.png", None],
        "deep": [{"deeper": [path, "text", 1, None]}],
    }


def test_what_a_killed_export_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".out [1].json.17.tmp").touch()
    (tmp_path / ".out [1].json.18.old.tmp").mkdir()
    (tmp_path / ".out 1.json.17.tmp").touch()
    remove_leftovers(tmp_path / "out [1].json")
    assert [part.name for part in tmp_path.iterdir()] == [".out 1.json.17.tmp"]
