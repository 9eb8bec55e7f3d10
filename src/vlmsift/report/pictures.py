"""Pictures inside a page. In: opened images, looks. Out: data URIs of thumbnails and heat, outlines as SVG paths."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

    from vlmsift.passes.looks import Look

SIDE = 224  # pixels of a thumbnail's longer side, at most
TINY = 96  # pictures up to this side are shown pixel by pixel
GRID = 96  # cells of a heat map's longer side
HEAT = (255, 84, 0)  # its colour; how much is told by how opaque it is
OPAQUE = 0.8  # where attention is largest
LARGEST = 98  # percentile of the cells that is drawn as the largest, so that one sink does not hide the rest
FINE = 2.5  # boxes up to so many times the smallest area are fine; a thumbnail's are larger


class Picture(NamedTuple):
    """One picture of a shown sample."""

    source: str  # data URI; "" where it cannot be shown
    width: int  # of the original, pixels
    height: int
    tiny: bool = False
    heat: str = ""  # data URI of the same shape
    outline: str = ""  # SVG path in a box of 1000 x 1000, around the masked tokens
    coarse: str = ""  # the same for tokens that stand for larger parts, such as those of a thumbnail
    missing: str = ""  # why it cannot be shown


def thumbnail(image: Image) -> Picture:
    """A picture made small."""
    width, height = image.size
    tiny = max(image.size) <= TINY
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    kind = {"format": "PNG", "optimize": True} if tiny else {"format": "JPEG", "quality": 78}
    return Picture(_uri(small, **kind), width, height, tiny)


def with_look(picture: Picture, look: Look, number: int) -> Picture:
    """The picture, which is the sample's `number`-th, with what the answer's attention lays over it."""
    there = (look.picture == number) & np.isfinite(look.boxes).all(1)  # (I,)
    if not there.any():
        return picture
    boxes, attention, masked = look.boxes[there], look.attention[there], look.masked[there]  # (n, 4), (n,), (n,)
    scale = GRID / max(picture.width, picture.height)
    shape = (max(1, round(picture.height * scale)), max(1, round(picture.width * scale)))
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])  # (n,)
    fine = area <= FINE * np.median(area[area <= FINE * area.min()])
    outlines = [_outline(_cells(boxes[masked & part], shape)) for part in (fine, ~fine)]
    return picture._replace(heat=_heat(boxes, attention, area, shape), outline=outlines[0], coarse=outlines[1])


def _coverage(low: NDArray[Any], high: NDArray[Any], cells: int) -> NDArray[np.float64]:
    """(n, cells) how much of each cell lies between `low` and `high` (n,), both 0 to 1."""
    edges = np.arange(cells + 1) / cells
    overlap = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
    covered: NDArray[np.float64] = np.clip(overlap, 0, None) * cells
    return covered


def _heat(boxes: NDArray[Any], attention: NDArray[Any], area: NDArray[Any], shape: tuple[int, int]) -> str:
    """Attention per area, laid over the picture: each token's is spread over its box."""
    from PIL import Image

    across, down = _coverage(boxes[:, 0], boxes[:, 2], shape[1]), _coverage(boxes[:, 1], boxes[:, 3], shape[0])
    density = attention / np.maximum(area, 1e-9)  # (n,)
    heat = np.einsum("n,nh,nw->hw", density, down, across)  # (h, w)
    largest = np.percentile(heat, LARGEST) or heat.max() or 1.0
    pixels = np.empty((*shape, 4), np.uint8)
    pixels[..., :3] = HEAT
    pixels[..., 3] = np.rint(255 * OPAQUE * np.clip(heat / largest, 0, 1))
    return _uri(Image.fromarray(pixels, "RGBA"), format="PNG", optimize=True)


def _cells(boxes: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """(h, w) the cells that mostly lie in one of the boxes (n, 4)."""
    across = _coverage(boxes[:, 0], boxes[:, 2], shape[1])
    down = _coverage(boxes[:, 1], boxes[:, 3], shape[0])
    inside: NDArray[np.bool_] = np.einsum("nh,nw->hw", (down > 0.5) * 1, (across > 0.5) * 1) > 0
    return inside


def _outline(inside: NDArray[np.bool_]) -> str:
    """The border of the cells (h, w) as an SVG path in a box of 1000 x 1000."""
    if not inside.any():
        return ""
    parts = []
    for turned in (False, True):
        cells = inside.T if turned else inside
        padded = np.pad(cells, ((1, 1), (0, 0)))
        border = padded[1:] != padded[:-1]  # (h + 1, w): lines between rows
        steps = np.diff(np.pad(border, ((0, 0), (1, 1))).astype(np.int8), axis=1)  # 1 where a line begins, -1 ends
        begins, ends = np.argwhere(steps == 1), np.argwhere(steps == -1)  # (lines, 2), in the same order
        along, across = 1000 / cells.shape[1], 1000 / cells.shape[0]
        for (place, start), (_, end) in zip(begins, ends, strict=True):
            at, first, last = round(place * across), round(start * along), round(end * along)
            parts.append(f"M{at} {first}V{last}" if turned else f"M{first} {at}H{last}")
    return "".join(parts)


def _uri(image: Image, **how: Any) -> str:
    content = io.BytesIO()
    image.save(content, **how)
    kind = str(how["format"]).lower()
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
