"""The redundant pool: near copies of each original, nothing wrong, the same bytes for the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from vlmsift.demo.questions import BY_TEXT
from vlmsift.demo.redundant import FARTHEST, group, make_redundant, near_copy, one_per_group


def test_each_original_has_its_copies_and_all_answers_are_right(tmp_path: Path) -> None:
    path = make_redundant(tmp_path / "a", 40, 5, 3)
    rows = json.loads(path.read_text())
    names = [row["id"] for row in rows]
    assert len(set(names)) == 40
    assert sorted(names) != names, "shuffled"
    groups: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        groups.setdefault(group(row["id"]), []).append(row)
    assert {len(members) for members in groups.values()} == {5}
    for members in groups.values():
        said = [[turn["value"] for turn in row["conversations"]] for row in members]  # type: ignore[index, union-attr]
        asked = {(BY_TEXT[text.partition("\n")[2]].task, BY_TEXT[text.partition("\n")[2]].about) for text, _ in said}
        assert len(asked) == len({answer for _, answer in said}) == 1
    best = one_per_group(path, 0)
    assert sorted(map(group, best)) == sorted(groups)
    again = make_redundant(tmp_path / "b", 40, 5, 3)
    assert again.read_bytes() == path.read_bytes()
    assert all((again.parent / row["image"]).read_bytes() == (path.parent / row["image"]).read_bytes() for row in rows)


def test_a_copy_is_moved_never_in_place_and_black_where_nothing_was() -> None:
    picture = Image.fromarray(np.full((32, 32, 3), 200, np.uint8))
    for seed in range(30):
        pixels = np.asarray(near_copy(picture, np.random.default_rng(seed)), float).mean(axis=2)
        dark = pixels < 60
        down, right = dark.all(axis=1).sum(), dark.all(axis=0).sum()
        assert 1 <= down + right <= 2 * FARTHEST
        assert dark.sum() == 32 * down + 32 * right - down * right
