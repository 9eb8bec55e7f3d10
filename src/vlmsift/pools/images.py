"""Opens one image. In: what a sample carries (a path below the image root, or encoded bytes). Out: an RGB picture.

Rows come from strangers: only files below the root are opened, on a disk or in a store, and only raster formats are
decoded. Nothing else is fetched.
"""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from vlmsift.errors import SampleError, StoreError
from vlmsift.places import Place, StorePath
from vlmsift.types import ImageRef

MAX_PIXELS = 89_478_485  # width x height; Pillow's own limit: beyond, a small file can fill the memory
KINDS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # no EPS (Ghostscript would be run), nor what is rare


def open_image(ref: ImageRef, root: Place) -> Image.Image:
    """Open, check and fully decode one image: its first frame in mode RGB, upright as its EXIF orientation says.

    Args:
        ref: a path relative to `root` (or absolute, below it), or an encoded image.

    Raises:
        SampleError: missing, outside `root`, damaged, cut off, too large or of unknown kind, or the store does not give
            it; names `ref` and the cure.
    """
    name = _named(ref)
    found = ref if isinstance(ref, bytes) else _below(ref, root, name)
    source = found if isinstance(found, Path) else io.BytesIO(_whole(found, name))
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


def image_bytes(ref: ImageRef, root: Place) -> bytes:
    """One image as it is encoded. Raises SampleError where it is missing, outside `root` or not given by its store."""
    name = _named(ref)
    return _whole(ref if isinstance(ref, bytes) else _below(ref, root, name), name)


def _named(ref: ImageRef) -> str:
    return f"{len(ref)} bytes" if isinstance(ref, bytes) else repr(ref if len(ref) <= 200 else ref[:200] + "...")


def _whole(found: bytes | Place, name: str) -> bytes:
    try:
        return found if isinstance(found, bytes) else found.read_bytes()
    except FileNotFoundError as error:
        cure = "name the right folder, or drop the row"
        raise SampleError("missing image", f"{name} is no file below the image folder; {cure}") from error
    except StoreError as error:
        raise SampleError(f"image not fetched, {error.kind}", f"{name}: {error.detail}") from error
    except OSError as error:
        raise SampleError("broken image", f"{name} cannot be read: {error}") from error


def _below(ref: str, root: Place, name: str) -> Place:
    """What `ref` means, provably below `root`; on a disk a file that exists."""
    inside = f"{root}/"
    if isinstance(root, StorePath) and ref.startswith(inside):  # an absolute one
        ref = ref[len(inside) :]
    if "://" in ref:
        raise SampleError("image is a link", f"{name}; download it first: vlmsift opens no network")
    if ".." in Path(ref).parts:
        raise SampleError("outside the image folder", f"{name} has '..' in it; write it relative to {root}")
    if isinstance(root, StorePath):
        if ref.startswith("/"):
            raise SampleError("outside the image folder", f"{name} is not below {root}; name the folder that holds all")
        return root / ref
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
