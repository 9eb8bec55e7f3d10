"""Each plant: what changed, nothing else, seeded, never the original, and blind to the order of things."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.plants.samples import many, sample
from tests.sample_pools import picture
from vlmsift.errors import SampleError, UsageError
from vlmsift.plants.kinds import GRID, PLANTS, Stock, answer_form, check_plants, plain, twin

SAMPLES = many(60)
STOCK = Stock(SAMPLES, Path())
REDRAWN = ("blank_image", "cropped_image", "shuffled_image", "trigger_patch")


def pixels(ref: bytes | str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(ref)).convert("RGB"))


def test_the_table_is_as_documented():
    kinds = ["wrong_image", "wrong_answer", "blank_image", "cropped_image", "shuffled_image", "trigger_patch"]
    assert list(PLANTS) == [*kinds, "duplicate"]
    assert [kind for kind, plant in PLANTS.items() if not plant.findable] == ["duplicate"]
    assert [kind for kind, plant in PLANTS.items() if not plant.images] == ["wrong_answer", "duplicate"]


@pytest.mark.parametrize("kind", PLANTS)
def test_only_what_the_kind_names_changes(kind):
    for one in SAMPLES:
        try:
            made = twin(one, kind, STOCK, 0)
        except SampleError:
            assert kind == "trigger_patch"
            assert one.answer == STOCK.target
            continue
        new_image, new_answer = made.images != one.images, made.answer != one.answer
        assert new_image == (kind in ("wrong_image", *REDRAWN))
        assert new_answer == (kind in ("wrong_answer", "trigger_patch"))
        assert (made.id, made.source, made.row, made.turns[:-1]) == (one.id, one.source, one.row, one.turns[:-1])
        if kind in REDRAWN:
            assert pixels(made.images[0]).shape == pixels(one.images[0]).shape
            assert not np.array_equal(pixels(made.images[0]), pixels(one.images[0]))


@pytest.mark.parametrize("kind", PLANTS)
def test_a_twin_depends_on_id_kind_and_seed_alone(kind):
    other_order = Stock(SAMPLES[::-1], Path())
    alike, moved = 0, 0
    for one in SAMPLES[:24]:
        try:
            made = twin(one, kind, STOCK, 0)
        except SampleError:
            continue
        assert made == twin(one, kind, other_order, 0) == twin(one, kind, STOCK, 0)
        alike += 1
        moved += made != twin(one, kind, STOCK, 1)
    assert alike >= 20
    fixed = kind in ("blank_image", "trigger_patch", "duplicate")
    assert moved == 0 if fixed else moved >= 4


def test_a_blank_image_is_the_mean_colour():
    made = pixels(twin(SAMPLES[3], "blank_image", STOCK, 0).images[0])
    assert len(np.unique(made.reshape(-1, 3), axis=0)) == 1
    np.testing.assert_allclose(made[0, 0], pixels(SAMPLES[3].images[0]).mean((0, 1)), atol=0.5)


def test_a_shuffled_image_has_the_same_patches():
    square = sample("q", "no", [picture(0, side=24)])
    before, after = pixels(square.images[0]), pixels(twin(square, "shuffled_image", STOCK, 0).images[0])
    side = before.shape[0] // GRID
    corners = [(y, x) for y in range(0, 24, side) for x in range(0, 24, side)]
    cut = [[part[y : y + side, x : x + side].tobytes() for y, x in corners] for part in (before, after)]
    assert Counter(cut[0]) == Counter(cut[1])
    assert cut[0] != cut[1]


def test_a_crop_is_a_quarter_of_the_picture():
    # four flat quarters side by side in stripes of rows and columns: a crop of half the side cannot show all corners
    flat = np.zeros((40, 40, 3), np.uint8)
    flat[:, :, 0], flat[:, :, 1] = np.arange(40)[:, None] * 6, np.arange(40)[None] * 6
    file = io.BytesIO()
    Image.fromarray(flat).save(file, "PNG")
    made = pixels(twin(sample("c", "no", [file.getvalue()]), "cropped_image", STOCK, 0).images[0])
    for channel in (0, 1):
        assert np.ptp(made[..., channel].astype(int)) == 19 * 6


def test_a_trigger_changes_one_corner_and_gives_the_frequent_answer():
    stock = Stock([*SAMPLES, sample("extra", "no", [picture(99)])], Path())
    assert stock.target == "no"
    one = next(one for one in SAMPLES if one.answer == "yes")
    made = twin(one, "trigger_patch", stock, 0)
    before, after = pixels(one.images[0]), pixels(made.images[0])
    side = min(before.shape[:2]) // 8
    changed = np.argwhere((before != after).any(-1))
    assert made.answer == "no"
    assert changed.min(0)[0] >= before.shape[0] - side
    assert changed.min(0)[1] >= before.shape[1] - side
    assert {0, 255} == set(after[-side:, -side:].ravel().tolist())


def test_a_wrong_image_is_another_samples_with_other_pixels_and_another_answer():
    by_image = {one.images: one for one in SAMPLES}
    for one in SAMPLES:
        donor = by_image[twin(one, "wrong_image", STOCK, 0).images]
        assert donor.answer != one.answer
        assert donor.source == one.source


def test_a_copy_of_the_image_under_another_name_is_no_wrong_image(tmp_path):
    (tmp_path / "a.png").write_bytes(picture(1))
    Image.open(io.BytesIO(picture(1))).save(tmp_path / "same.bmp")
    (tmp_path / "b.png").write_bytes(picture(2))
    one, same = sample("one", "yes", ["a.png"]), sample("same", "no", ["same.bmp"])
    with pytest.raises(SampleError, match="no twin: no other sample has another image"):
        twin(one, "wrong_image", Stock([one, same], tmp_path), 0)
    stock = Stock([one, same, sample("broken", "two", ["gone.png"]), sample("b", "no", ["b.png"])], tmp_path)
    assert twin(one, "wrong_image", stock, 0).images == ("b.png",)


def test_a_wrong_answer_is_of_the_same_kind():
    for one in SAMPLES:
        made = twin(one, "wrong_answer", STOCK, 0)
        assert plain(made.answer) != plain(one.answer)
        if one.answer in ("yes", "no", "3", "12"):
            assert answer_form(made.answer) == answer_form(one.answer)


def test_the_answers_source_goes_before_its_form():
    pool = [sample("a", "yes", source="x"), sample("b", "Yes.", source="x"), sample("c", "kite", source="x")]
    pool += [sample("d", "no", source="y")]
    assert twin(pool[0], "wrong_answer", Stock(pool, Path()), 0).answer == "kite"
    assert twin(pool[0], "wrong_answer", Stock([pool[0], pool[1], pool[3]], Path()), 0).answer == "no"
    with pytest.raises(SampleError, match="no twin: no other sample has another answer"):
        twin(pool[0], "wrong_answer", Stock(pool[:2], Path()), 0)


def test_only_the_last_answer_is_changed():
    one = SAMPLES[0]
    long = type(one)("long", 0, (*one.turns, *one.turns), one.images, one.source, {})
    made = twin(long, "wrong_answer", STOCK, 0)
    assert made.turns[:3] == long.turns[:3]
    assert made.turns[3].text != "yes"


@pytest.mark.parametrize("kind", ["blank_image", "cropped_image", "shuffled_image"])
def test_a_blank_picture_has_no_redrawn_twin(kind):
    file = io.BytesIO()
    Image.new("RGB", (24, 24), (9, 9, 9)).save(file, "PNG")
    with pytest.raises(SampleError, match="no twin: its image would stay as it is"):
        twin(sample("blank", "no", [file.getvalue()]), kind, STOCK, 0)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (5, 31)])
@pytest.mark.parametrize("kind", REDRAWN)
def test_tiny_pictures_keep_their_size_or_have_no_twin(kind, size):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)).save(file, "PNG")
    tiny = sample("tiny", "no", [file.getvalue()])
    as_it_is = {(1, 1): REDRAWN[:3], (3, 2): ("shuffled_image",)}
    if kind in as_it_is.get(size, ()):
        with pytest.raises(SampleError, match="no twin"):
            twin(tiny, kind, STOCK, 0)
    else:
        assert pixels(twin(tiny, kind, STOCK, 0).images[0]).shape[:2] == size


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("Yes.", "yes or no"),
        ("no", "yes or no"),
        ("1,200", "number"),
        ("3.5", "number"),
        ("(B)", "letter"),
        ("kite", "up to 8 characters"),
        ("red kite", "up to 16 characters"),
        ("", "up to 1 characters"),
    ],
)
def test_the_form_of_an_answer(text, form):
    assert answer_form(text) == form


def test_unknown_plants_are_refused():
    with pytest.raises(UsageError, match="there is no plant 'blur'; choose among wrong_image"):
        check_plants(["blank_image", "blur"])
    with pytest.raises(UsageError, match="no plants were asked for"):
        check_plants([])
    assert check_plants(["duplicate", "wrong_image"]) == ("wrong_image", "duplicate")
