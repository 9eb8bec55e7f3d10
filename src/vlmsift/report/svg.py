"""Small charts as SVG. In: numbers. Out: markup that takes its colours from the page, for both themes.

All text in them is a number, or is escaped. Units of the coordinates are pixels at the usual size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

WIDTH, HEIGHT = 340, 190  # of a histogram
SQUARE = 320  # height of a scatter
LEFT, RIGHT, TOP, BOTTOM = 40, 10, 18, 34  # margins
Floats = NDArray[np.floating[Any]]
Mark = tuple[str, float, float]  # a word, and where it stands


def short(value: float) -> str:
    """A number in few letters: 1,234 | 0.25 | 3.1k | 2.4M."""
    size = abs(value)
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            return f"{value / (1e3 if letter == 'k' else limit):.3g}{letter}"
    return f"{value:,.0f}" if value == int(value) else f"{value:.3g}"


def nice_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers from `low` to `high`, about `count` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def histogram(
    edges: Floats, kept: Floats, dropped: Floats, label: str, cut: tuple[float, float] | None = None
) -> Markup:
    """Bars of rows, the kept ones below the dropped ones, over `edges` (bins + 1,).

    One bar that is far above the others is cut off, its count written over it; its parts keep their proportion.

    Args:
        label: of the axis, with its unit.
        cut: the lowest kept and the highest dropped value (or the other way round): one line, or a band where both
            are kept and dropped.
    """
    low, high = float(edges[0]), float(edges[-1])
    both = kept + dropped
    top = _top(both)
    across = _Scale(low, high, LEFT, WIDTH - RIGHT)
    up = _Scale(0, top, HEIGHT - BOTTOM, TOP)
    fit = np.minimum(1, top / np.maximum(both, 1e-9))  # (bins,)
    parts = [_ticks_up(up, nice_ticks(0, top, 3), WIDTH - RIGHT)]
    base = up(0)
    for name, lower, upper in (("kept", 0 * kept, kept * fit), ("dropped", kept * fit, both * fit)):
        bars = []
        for left, right, start, end in zip(edges[:-1], edges[1:], lower, upper, strict=True):
            if end > start:
                x, y, below = across(left) + 0.5, up(end), up(start)
                bars.append(f"M{x:.1f} {below:.1f}V{y:.1f}H{across(right) - 0.5:.1f}V{below:.1f}Z")
        parts.append(f'<path class="{name}" d="{"".join(bars)}"/>')
    over = [bin for bin, part in enumerate(fit) if part < 1]
    for bin in over:
        x = across((edges[bin] + edges[bin + 1]) / 2)
        anchor = "end" if bin + 1 in over else "start" if bin - 1 in over else "middle"
        parts.append(f'<path class="break" d="M{x - 6:.1f} {TOP + 9}l4 -4l4 4l4 -4"/>')
        parts.append(_text("tick", x, TOP - 4, short(both[bin]), anchor))
    if cut is not None:
        first, last = sorted(across(min(max(value, low), high)) for value in cut)
        parts.append(_cut(first, last, base))
    parts.append(_ticks_across(across, nice_ticks(low, high), base, label))
    return _svg(WIDTH, HEIGHT, f"Histogram of {label}", parts)


def _top(heights: Floats) -> float:
    """Where the axis of the counts ends."""
    ordered = np.sort(heights)
    beyond = 2.2 * float(ordered[-min(4, len(ordered))])  # of the fourth highest bar
    most = float(ordered[-1]) or 1.0
    return beyond if 0 < beyond < 0.6 * most else most


def _cut(first: float, last: float, base: float) -> str:
    """A line, or a band between two."""
    wide = last - first > 2
    lines = (first, last) if wide else ((first + last) / 2,)
    band = f'<rect class="band" x="{first:.1f}" y="{TOP}" width="{last - first:.1f}" height="{base - TOP}"/>'
    drawn = "".join(f'<path class="cut" d="M{line:.1f} {TOP - 10}V{base:.1f}"/>' for line in lines)
    at, side = (last + 4, "start") if last < WIDTH * 0.8 else (last - 4, "end")
    return band * wide + drawn + _text("cut-label", at, TOP - 3, "cut", side)


def scatter(
    groups: Sequence[tuple[str, Floats]], labels: tuple[str, str], axes: bool = True, marks: Sequence[Mark] = ()
) -> Markup:
    """Points: (class, (n, 2)) of each group, the last drawn on top; `marks` are (text, x, y) written over them."""
    points = np.concatenate([group for _, group in groups]) if groups else np.zeros((0, 2))
    ends = []
    for axis in (0, 1):
        values = points[:, axis] if len(points) else np.zeros(1)
        low, high = (float(value) for value in np.quantile(values, [0.005, 0.995] if axes else [0, 1]))
        margin = (high - low or 1.0) * 0.04
        ends.append((low - margin, high + margin))
    left, bottom = (LEFT, BOTTOM) if axes else (8, 8)
    across = _Scale(*ends[0], left, WIDTH - RIGHT)
    up = _Scale(*ends[1], SQUARE - bottom, TOP)
    parts = []
    if axes:
        parts.append(_ticks_up(up, nice_ticks(*ends[1]), WIDTH - RIGHT))
        parts.append(_ticks_across(across, nice_ticks(*ends[0]), SQUARE - BOTTOM, labels[0]))
        parts.append(_text("axis-label", LEFT, TOP - 6, labels[1]))
    for name, group in groups:
        inside = group.clip([ends[0][0], ends[1][0]], [ends[0][1], ends[1][1]])  # outliers lie on the border
        path = "".join(f"M{across(x):.1f} {up(y):.1f}h0" for x, y in inside)
        parts.append(f'<path class="points {escape(name)}" d="{path}"/>')
    for text, x, y in marks:
        parts.append(_text("mark", across(x), up(y) - 6, text, "middle"))
    return _svg(WIDTH, SQUARE, f"{labels[0]} against {labels[1]}", parts)


def bar(kept: float, dropped: float, most: float) -> Markup:
    """A lying bar, as wide as its place: the kept part, then the dropped one, of `most`."""
    first, rest = (100 * value / (most or 1) for value in (kept, dropped))
    parts = f'<rect class="kept" width="{first:.2f}" height="8"/>'
    return _lying(f'{parts}<rect class="dropped" x="{first:.2f}" width="{rest:.2f}" height="8"/>')


def percentile(value: float) -> Markup:
    """A mark on a line from 0 to 100."""
    line = '<rect class="track" y="3" width="100" height="2"/>'
    return _lying(f'{line}<rect class="at" x="{value * 0.97:.1f}" width="3" height="8"/>')


def _lying(parts: str) -> Markup:
    return Markup(f'<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">{parts}</svg>')


class _Scale:
    """Values to pixels."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.start, self.factor = low, start, (end - start) / ((high - low) or 1.0)

    def __call__(self, value: float) -> float:
        return self.start + (float(value) - self.low) * self.factor


def _ticks_across(scale: _Scale, ticks: Sequence[float], base: float, label: str) -> str:
    numbers = "".join(_text("tick", scale(tick), base + 14, short(tick), "middle") for tick in ticks)
    line = f'<path class="axis" d="M{LEFT} {base:.1f}H{WIDTH - RIGHT}"/>'
    return line + numbers + _text("axis-label", (LEFT + WIDTH - RIGHT) / 2, base + 29, label, "middle")


def _ticks_up(scale: _Scale, ticks: Sequence[float], right: float) -> str:
    lines = "".join(f"M{LEFT} {scale(tick):.1f}H{right}" for tick in ticks)
    numbers = "".join(_text("tick", LEFT - 5, scale(tick) + 3.5, short(tick), "end") for tick in ticks)
    return f'<path class="grid" d="{lines}"/>{numbers}'


def _text(kind: str, x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(width: float, height: float, label: str, parts: Sequence[str]) -> Markup:
    begin = f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
    return Markup(f"{begin}{''.join(parts)}</svg>")
