"""The splits share nothing, and a scene shows what it says."""

import numpy as np

from vlmsift.demo.digits import (
    BLANK,
    CELL_PIXELS,
    EMPTY,
    IMAGE_PIXELS,
    SPLIT_SIZES,
    Scene,
    digit_data,
    draw_scene,
    split,
)


def test_splits_are_disjoint_and_cover_all_digits():
    parts = {name: split(name) for name in SPLIT_SIZES}
    assert {name: len(part) for name, part in parts.items()} == SPLIT_SIZES
    assert sorted(index for part in parts.values() for index in part) == list(range(len(digit_data()[1])))


def test_splits_never_move():
    # The shipped model was trained on these: another order would put digits that it has seen into the test.
    assert split("train")[:3] == (246, 611, 1100)
    assert split("test")[-3:] == (1534, 562, 1743)


def test_no_digit_picture_is_in_two_splits():
    ink = digit_data()[0]
    seen = {name: {ink[index].tobytes() for index in split(name)} for name in SPLIT_SIZES}
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["pool"]
    assert not seen["pool"] & seen["test"]


def test_scenes_use_their_split_only():
    rng = np.random.default_rng(0)
    for name in SPLIT_SIZES:
        used = {cell for _ in range(200) for cell in draw_scene(rng, name).cells} - {EMPTY}
        assert len(used) > 100
        assert used <= set(split(name))


def test_each_cell_is_drawn_in_its_place():
    index = split("test")[0]
    for place in range(4):
        cells = [EMPTY] * 4
        cells[place] = index
        scene = Scene(tuple(cells))
        assert scene.values[place] == digit_data()[1][index]
        pixels = np.asarray(scene.picture())
        assert pixels.shape == (IMAGE_PIXELS, IMAGE_PIXELS, 3)
        top, left = place // 2 * CELL_PIXELS, place % 2 * CELL_PIXELS
        assert pixels[top : top + CELL_PIXELS, left : left + CELL_PIXELS].max() > 200
        assert pixels.sum() == pixels[top : top + CELL_PIXELS, left : left + CELL_PIXELS].sum()


def test_jitter_changes_the_handwriting_a_little():
    scene = draw_scene(np.random.default_rng(1), "train")
    plain = np.asarray(scene.picture(), dtype=float).ravel()
    varied = np.asarray(scene.picture(np.random.default_rng(2)), dtype=float).ravel()
    again = np.asarray(scene.picture(np.random.default_rng(2)), dtype=float).ravel()
    assert (varied != plain).any()
    assert (varied == again).all()
    assert np.corrcoef(plain, varied)[0, 1] > 0.5


def test_blank_is_black():
    assert np.asarray(BLANK.picture()).max() == 0
