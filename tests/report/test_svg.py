"""Charts, against what can be read off them."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from vlmsift.report.svg import bar, histogram, nice_ticks, scatter, short

EDGES = np.linspace(0, 10, 6)


def heights(svg: str, kind: str) -> list[float]:
    """Height of each bar of that class, in pixels."""
    path = re.search(rf'<path class="{kind}" d="([^"]*)"', svg)
    assert path is not None
    ends = re.findall(r"M[\d.]+ ([\d.]+)V([\d.]+)H", path[1])
    return [round(float(low) - float(high), 1) for low, high in ends]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1234, "1,234"), (0.25, "0.25"), (31_000, "31k"), (2_400_000, "2.4M"), (-5e9, "-5G")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert short(value) == text


def test_ticks_are_round_and_inside() -> None:
    assert nice_ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert nice_ticks(-0.93, 0.42) == [-0.75, -0.5, -0.25, 0, 0.25]
    assert nice_ticks(3, 3) == [3]


def test_bars_are_as_high_as_their_rows() -> None:
    svg = histogram(EDGES, np.array([1.0, 2, 0, 4, 0]), np.array([3.0, 0, 4, 0, 2]), "loss, nats")
    ElementTree.fromstring(svg)
    kept, dropped = heights(svg, "kept"), heights(svg, "dropped")
    assert kept == [pytest.approx(kept[0] * share, abs=0.2) for share in (1, 2, 4)]
    assert dropped == [pytest.approx(kept[0] * share, abs=0.2) for share in (3, 4, 2)]
    assert "loss, nats" in svg
    assert 'class="cut"' not in svg


def test_a_bar_far_above_the_others_is_cut_off_and_told() -> None:
    svg = histogram(EDGES, np.array([250.0, 1, 2, 3, 4]), np.array([750.0, 1, 2, 3, 4]), "loss")
    assert ">1,000<" in svg
    assert 'class="break"' in svg
    kept, dropped = heights(svg, "kept"), heights(svg, "dropped")
    assert dropped[0] == pytest.approx(3 * kept[0], rel=0.01), "its parts keep their proportion"
    assert kept[4] > 0.2 * (kept[0] + dropped[0]), "the others can be seen"


def test_a_cut_is_a_line_or_a_band() -> None:
    even = np.ones(5)
    line = histogram(EDGES, even, even, "x", (5.0, 4.99))
    assert line.count('class="cut"') == 1
    assert 'class="band"' not in line
    band = histogram(EDGES, even, even, "x", (8.0, 2.0))
    assert band.count('class="cut"') == 2
    places = [float(at) for at in re.findall(r'class="cut" d="M([\d.]+) ', band)]
    assert places == [pytest.approx(40 + 290 * share, abs=0.1) for share in (0.2, 0.8)]


def test_points_lie_where_they_should_and_labels_are_escaped() -> None:
    svg = scatter([("kept", np.array([[0.0, 0.0], [10.0, 5.0]])), ("dropped", np.zeros((0, 2)))], ("<b>", "y"))
    ElementTree.fromstring(svg)
    assert "<b>" not in svg
    first, last = re.findall(r"M([\d.]+) ([\d.]+)h0", svg)
    assert float(first[0]) < float(last[0])
    assert float(first[1]) > float(last[1]), "up is more"


def test_a_lying_bar_has_both_parts() -> None:
    assert 'width="25.00"' in bar(1, 2, 4)
    assert 'x="25.00" width="50.00"' in bar(1, 2, 4)
