"""The figure: a panel per schedule, the band, the full pool's line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.experiment.test_table import FULL, RANDOM, result
from vlmsift.experiment.figure import draw_figure
from vlmsift.experiment.table import build_rows


def drawn(path: Path, results: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The matplotlib figure that was written."""
    from matplotlib.figure import Figure

    kept: list[Any] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **how: (kept.append(self), save(self, *args, **how)))
    assert draw_figure(path, build_rows(results)[0]) == path
    assert path.read_bytes().startswith(b"\x89PNG")
    return kept[0]


def test_the_figure_has_a_panel_per_schedule_a_band_and_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = [result("random", seed, (0.6, 0.6), budget="50%", share=0.5) for seed in range(5)]
    steps = [result(one, 0, (0.6, 0.6), schedule="steps") for one in ("full", "mine")]
    figure = drawn(tmp_path / "figure.png", [*FULL, *RANDOM, *wide, result("mine", 0, (0.5, 0.5)), *steps], monkeypatch)
    assert [axes.get_title() for axes in figure.axes] == ["equal epochs", "equal steps"]
    left, right = figure.axes
    labels = left.get_legend_handles_labels()[1]
    assert set(labels) == {"full", "mine", "random, mean", "random, ± 1 std", "random, lowest to highest"}
    assert len(left.collections) == 2 + 1  # two bands, and the error bar's
    low = left.collections[0].get_paths()[0].get_extents()
    assert (low.y0, low.y1) == (pytest.approx(0.48), pytest.approx(0.6))
    assert set(right.get_legend_handles_labels()[1]) == {"full", "mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]


def test_few_random_seeds_are_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn(tmp_path / "figure.png", [*FULL, *RANDOM[:4]], monkeypatch)
    assert "random" in figure.axes[0].get_legend_handles_labels()[1]


def test_augmentations_are_lines_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = [result("mine", 0, (0.5, 0.5), augmentation=name) for name in ("none", "top")]
    figure = drawn(tmp_path / "figure.png", mine, monkeypatch)
    assert figure.axes[0].get_legend_handles_labels()[1] == ["mine, none", "mine, top"]


def test_nothing_to_draw(tmp_path: Path) -> None:
    assert draw_figure(tmp_path / "figure.png", []) is None
    assert draw_figure(tmp_path / "figure.png", build_rows([result("mine", 0, (0.5,), share=None)])[0]) is None
    assert list(tmp_path.iterdir()) == []
