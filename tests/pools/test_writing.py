"""Rows as text, and images kept under the hash of their content."""

from __future__ import annotations

from pathlib import Path

from tests.pools.helpers import png
from vlmsift.pools.writing import ImageFolder, write_text


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


def test_an_image_that_a_crash_cut_off_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / ImageFolder(tmp_path / "out.json").keep(png())
    path.write_bytes(b"")
    ImageFolder(tmp_path / "out.json").keep(png())
    assert path.read_bytes() == png()


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
