"""Opens one image. In: what a sample carries (a path below the image root, or encoded bytes). Out: an RGB picture.

Rows come from strangers: only files below the root are opened, only raster formats are decoded, and nothing is fetched.
"""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from vlmsift.errors import SampleError
from vlmsift.types import ImageRef

MAX_PIXELS = 89_478_485  # width x height; Pillow's own limit: beyond, a small file can fill the memory
KINDS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # no EPS (Ghostscript would be run), nor what is rare


def open_image(ref: ImageRef, root: Path) -> Image.Image:
    """Open, check and fully decode one image: its first frame in mode RGB, upright as its EXIF orientation says.

    Args:
        ref: a path relative to `root` (or absolute, below it), or an encoded image.

    Raises:
        SampleError: missing, outside `root`, damaged, cut off, too large or of unknown kind; names `ref` and the cure.
    """
    name = f"{len(ref)} bytes" if isinstance(ref, bytes) else repr(ref if len(ref) <= 200 else ref[:200] + "...")
    source = io.BytesIO(ref) if isinstance(ref, bytes) else _below(ref, root, name)
    try:
        with Image.open(source, formats=KINDS) as image:
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width} x {image.height} pixels, the limit is {MAX_PIXELS}"
                raise SampleError("image too large", f"{name} has {size}; scale it down")
            image.load()
            return ImageOps.exif_transpose(image).convert("RGB")
    except SampleError:
        raise
    except UnidentifiedImageError as error:
        raise SampleError("broken image", f"{name} is none of {', '.join(KINDS)}; convert it to PNG or JPEG") from error
    except Exception as error:  # decoders raise anything from struct.error to MemoryError
        cure = "replace the file or drop the row"
        raise SampleError("broken image", f"{name} cannot be decoded: {error}; {cure}") from error


def _below(ref: str, root: Path, name: str) -> Path:
    """The existing file that `ref` means, provably below `root`."""
    if "://" in ref:
        raise SampleError("image is a link", f"{name}; download it first: vlmsift opens no network")
    if ".." in Path(ref).parts:
        raise SampleError("outside the image folder", f"{name} has '..' in it; write it relative to {root}")
    try:
        path, base = (root / ref).resolve(), root.resolve()
        if not path.is_relative_to(base):
            raise SampleError("outside the image folder", f"{name} is not below {root}; name the folder that holds all")
        if not path.is_file():
            cure = "name the right folder, or drop the row"
            raise SampleError("missing image", f"{name} is not a file below {root}; {cure}")
    except (OSError, ValueError) as error:  # a name too long, a zero byte
        raise SampleError("missing image", f"{name} is not a usable path: {error}") from error
    return path
