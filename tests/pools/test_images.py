"""Opening images: what is read, and every way in which it is refused with a reason."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tests.pools.helpers import png
from vlmsift.errors import SampleError
from vlmsift.pools import open_image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "the images"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a.png").write_bytes(png("red"))
    (tmp_path / "secret.png").write_bytes(png("blue"))
    return root


def test_a_relative_path_an_absolute_one_below_the_root_and_bytes(root: Path) -> None:
    for ref in ("sub/a.png", "./sub/a.png", str(root / "sub" / "a.png"), png("red")):
        image = open_image(ref, root)
        assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (4, 3), (255, 0, 0))


def test_a_link_to_a_file_below_the_root_is_followed(root: Path) -> None:
    (root / "link.png").symlink_to(root / "sub" / "a.png")
    assert open_image("link.png", root).size == (4, 3)


def test_the_root_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(root)
    assert open_image("sub/a.png", tmp_path / "linked").size == (4, 3)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA", "I;16"])
def test_every_mode_becomes_rgb(mode: str, root: Path) -> None:
    name = "x.jpg" if mode == "CMYK" else "x.png"
    Image.new(mode, (5, 2)).save(root / name)
    assert open_image(name, root).mode == "RGB"


def test_the_picture_is_turned_upright(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (5, 2)).save(root / "x.jpg", exif=exif)
    assert open_image("x.jpg", root).size == (2, 5)


def test_the_first_of_several_frames_is_read(root: Path) -> None:
    for kind in ("MPO", "GIF", "WEBP", "TIFF"):
        path = root / f"x.{kind}"
        frames = [Image.new("RGB", (9, 9), color) for color in ("white", "black")]
        frames[0].save(path, kind, save_all=True, append_images=frames[1:])
        assert open_image(path.name, root).getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_truncated_file_fails(kind: str, root: Path) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(buffer, kind)
    whole = buffer.getvalue()
    assert open_image(whole, root).size == (64, 64)
    with pytest.raises(SampleError, match=r"replace the file|convert it"):
        open_image(whole[: len(whole) // 2], root)


def outside(root: Path) -> dict[str, str]:
    (root / "out").symlink_to(root.parent)
    (root / "out.png").symlink_to(root.parent / "secret.png")
    return {
        "../secret.png": "'..'",
        "sub/../../secret.png": "'..'",
        "sub/../sub/a.png": "'..'",
        str(root.parent / "secret.png"): "outside the image folder: .* is not below",
        "/etc/passwd": "outside the image folder: .* is not below",
        "out/secret.png": "outside the image folder: .* is not below",
        "out.png": "outside the image folder: .* is not below",
    }


def test_nothing_outside_the_root_is_opened(root: Path) -> None:
    for ref, reason in outside(root).items():
        with pytest.raises(SampleError, match=reason) as caught:
            open_image(ref, root)
        assert ref in str(caught.value)


def test_a_folder_whose_name_begins_like_the_root_is_outside(root: Path) -> None:
    beside = root.with_name(root.name + " too")
    beside.mkdir()
    (beside / "a.png").write_bytes(png())
    with pytest.raises(SampleError, match="outside the image folder"):
        open_image(str(beside / "a.png"), root)


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        ("missing.png", "not a file below"),
        ("sub", "not a file below"),
        ("", "not a file below"),
        ("a\0b.png", "not a usable path"),
        ("x" * 5000, "not a"),
        ("https://example.org/a.png", "opens no network"),
        (b"", "convert it to PNG"),
        (b"not an image", "12 bytes"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "convert it to PNG"),
    ],
)
def test_what_cannot_be_opened_is_a_sentence(ref: str | bytes, reason: str, root: Path) -> None:
    with pytest.raises(SampleError, match=reason):
        open_image(ref, root)


def test_a_pipe_is_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "pipe.png")
    with pytest.raises(SampleError, match="not a file"):
        open_image("pipe.png", root)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_small_file_cannot_fill_the_memory(root: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 12_000, 9_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(SampleError, match=r"12000 x 9000 pixels.*scale it down"):
        open_image(bomb, root)
