"""The pool's bytes follow from its arguments, and its truth is true: answers are computed again from what is shown."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from vlmsift.demo import pool as module
from vlmsift.demo.pool import make_pool, read_truth
from vlmsift.demo.questions import BY_TEXT, TASKS
from vlmsift.errors import UsageError

SIZE = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_pool(tmp_path_factory.mktemp("a place") / "pool", SIZE, seed=5).parent


@pytest.fixture(scope="module")
def rows(folder):
    return {row["id"]: row for row in json.loads((folder / "pool.json").read_text())}


@pytest.fixture(scope="module")
def truth(folder):
    return read_truth(folder)


def parts(row):
    human, gpt = row["conversations"]
    assert (human["from"], gpt["from"]) == ("human", "gpt")
    mark, text = human["value"].split("\n")
    assert mark == "<image>"
    return BY_TEXT[text], gpt["value"]


def content(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_same_arguments_write_the_same_bytes(folder, tmp_path):
    assert content(make_pool(tmp_path / "again", SIZE, seed=5).parent) == content(folder)
    assert content(make_pool(tmp_path / "other", SIZE, seed=6).parent) != content(folder)


def test_known_parts(rows, truth):
    kinds = Counter(row["kind"] for row in truth.values())
    assert kinds == {"clean": 200, "wrong_image": 50, "wrong_answer": 50, "blank_image": 50, "duplicate": 50}
    assert list(rows) == list(truth)
    assert {row["source"] for row in rows.values()} == set(TASKS)


def test_an_uneven_share_is_kept_exactly(tmp_path):
    kinds = Counter(row["kind"] for row in read_truth(make_pool(tmp_path / "p", 101, spoiled=0.3).parent).values())
    assert kinds.total() == 101
    assert kinds["clean"] == 71
    assert {kinds[kind] for kind in module.SPOILED} == {7, 8}


def test_truth_is_true(folder, rows, truth):
    for sample_id, row in rows.items():
        question, answer = parts(row)
        known = truth[sample_id]
        assert question.task == row["source"]
        assert question.answer(known["shown"]) == known["right"]
        right = known["kind"] in ("clean", "duplicate")
        assert (answer == known["right"]) == right, known


def test_pictures_show_what_the_truth_says(folder, rows, truth):
    for sample_id, row in rows.items():
        pixels = np.asarray(Image.open(folder / row["image"]))
        inked = [bool(pixels[top : top + 16, left : left + 16].any()) for top in (0, 16) for left in (0, 16)]
        assert inked == [value is not None for value in truth[sample_id]["shown"]]
        assert any(inked) == (truth[sample_id]["kind"] != "blank_image")


def test_copies_and_moved_images_point_at_clean_samples(folder, rows, truth):
    for sample_id, known in truth.items():
        if known["kind"] not in ("duplicate", "wrong_image"):
            assert known["of"] is None
            continue
        other = known["of"]
        assert truth[other]["kind"] == "clean"
        assert (folder / rows[sample_id]["image"]).read_bytes() == (folder / rows[other]["image"]).read_bytes()
        same = rows[sample_id]["conversations"] == rows[other]["conversations"]
        assert same == (known["kind"] == "duplicate")


def test_ids_carry_no_hint(rows, truth):
    assert [int(sample_id) for sample_id in rows] == list(range(SIZE))
    places = [place for place, known in enumerate(truth.values()) if known["kind"] != "clean"]
    assert abs(np.mean(places) - SIZE / 2) < SIZE / 10


def test_a_demo_pool_is_replaced_and_anything_else_is_not(tmp_path):
    out = tmp_path / "pool"
    make_pool(out, 30)
    make_pool(out, 40)
    assert len(read_truth(out)) == 40
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not a demo pool"):
        make_pool(out, 30)
    assert (out / "notes.txt").read_text() == "mine"


def test_a_pool_is_whole_or_absent(tmp_path, monkeypatch):
    def full_disk(picture):
        raise OSError("no space left")

    monkeypatch.setattr(module, "to_png", full_disk)
    with pytest.raises(OSError, match="no space"):
        make_pool(tmp_path / "pool", 30)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "quoted"), [({"size": 7}, "7"), ({"spoiled": 1.5}, "1.5"), ({"spoiled": -1}, "-1")]
)
def test_arguments_out_of_range(tmp_path, arguments, quoted):
    with pytest.raises(UsageError, match=quoted):
        make_pool(tmp_path / "pool", **arguments)
