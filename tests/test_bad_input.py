"""One bad row in a pool, of each kind: that one is an error row, with its reason, and all others are as ever."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import vlmsift
from tests.sample_pools import SIGNALS, Row, assert_same_numbers, conversation, llava_rows, picture, write_pool
from vlmsift.runs.run import Run
from vlmsift.specs import EngineSpec

COUNT, BAD = 12, 5
TOLERANCE = 1e-5
"""In nats and shares: the bad row is missing from its batch, so the others' batch may be shaped differently."""


@pytest.fixture(scope="module")
def model(toy_path: Callable[[str], Path]) -> vlmsift.Adapter:
    return vlmsift.open_model(toy_path("llava"))


@pytest.fixture(scope="module")
def clean(model: vlmsift.Adapter, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("clean")
    return vlmsift.score(
        write_pool(folder, llava_rows(COUNT)), model, folder / "run", signals=SIGNALS, engine=EngineSpec(workers=0)
    )


def broken(folder: Path, row: Row) -> None:
    whole = picture(BAD)
    (folder / row["image"]).write_bytes(whole[: len(whole) // 2])


def no_picture(folder: Path, row: Row) -> None:
    (folder / row["image"]).write_text("<html>404</html>")


def zero_bytes(folder: Path, row: Row) -> None:
    (folder / row["image"]).write_bytes(b"")


def missing(folder: Path, row: Row) -> None:
    (folder / row["image"]).unlink()


def outside(folder: Path, row: Row) -> None:
    (folder.parent / "secret.png").write_bytes(picture(BAD))
    row["image"] = "../secret.png"


def outside_by_link(folder: Path, row: Row) -> None:
    (folder.parent / "secret.png").write_bytes(picture(BAD))
    (folder / row["image"]).unlink()
    (folder / row["image"]).symlink_to(folder.parent / "secret.png")


def link(folder: Path, row: Row) -> None:
    row["image"] = "https://example.org/5.png"


def empty_answer(folder: Path, row: Row) -> None:
    row["conversations"][1]["value"] = " \n"


def no_answer(folder: Path, row: Row) -> None:
    del row["conversations"][1]


def no_turns(folder: Path, row: Row) -> None:
    del row["conversations"]


def too_long(folder: Path, row: Row) -> None:
    row["conversations"][1]["value"] = "long " * 900


def two_marks(folder: Path, row: Row) -> None:
    row["conversations"][0]["value"] = "<image> and <image>: which?"


def no_mark(folder: Path, row: Row) -> None:
    row["conversations"][0]["value"] = "What is it?"


def mark_in_the_answer(folder: Path, row: Row) -> None:
    row["conversations"][1]["value"] = "I see an <image> here."


def video(folder: Path, row: Row) -> None:
    row["video"] = "clip.mp4"


def text_for_turns(folder: Path, row: Row) -> None:
    row["conversations"] = "What is it? A cat."


def strange_role(folder: Path, row: Row) -> None:
    row["conversations"][0]["from"] = "narrator"


def number_for_text(folder: Path, row: Row) -> None:
    row["conversations"][1]["value"] = 7


KINDS: dict[Callable[[Path, Row], None], tuple[str, str]] = {
    broken: ("broken image", "'images/5.png' cannot be decoded"),
    no_picture: ("broken image", "'images/5.png' is none of PNG, JPEG"),
    zero_bytes: ("broken image", "'images/5.png' is none of PNG, JPEG"),
    missing: ("missing image", "'images/5.png' is not a file below"),
    outside: ("outside the image folder", "'../secret.png' has '..' in it"),
    outside_by_link: ("outside the image folder", "'images/5.png' is not below"),
    link: ("image is a link", "download it first"),
    empty_answer: ("empty answer", "every assistant turn"),
    no_answer: ("empty answer", "every assistant turn"),
    no_turns: ("no turns", "'conversations' is missing"),
    too_long: ("too long", "the model's context is 2048"),
    two_marks: ("wrong image count", "2 <image> marks but 1 images"),
    no_mark: ("wrong image count", "0 <image> marks but 1 images"),
    mark_in_the_answer: ("wrong image count", "2 <image> marks but 1 images"),
    video: ("videos are not supported yet", ""),
    text_for_turns: ("malformed row", "'conversations' must be a list"),
    strange_role: ("malformed row", "unknown role 'narrator'"),
    number_for_text: ("malformed row", "turn 1: 'value' must be a string"),
}


def check(run: Run, clean: Run, kind: str, detail: str, bad: str = f"r{BAD}") -> None:
    """One error row with that reason and no numbers; every other row as in the clean pool; the summary counts it."""
    rows = {row["id"]: row for row in run.table().to_pylist()}
    row = rows[bad]
    assert [key for key, other in rows.items() if other["status"] != "ok"] == [bad]
    assert row["reason"].partition(":")[0] == kind
    assert detail in row["reason"]
    assert [row[column.name] for column in run.columns()] == [None] * len(SIGNALS)
    assert run.summary()["errors"] == {kind: 1}
    assert run.summary()["ok"] == COUNT - 1
    assert_same_numbers(run, clean, [key for key in rows if key != bad], TOLERANCE)
    assert vlmsift.select(run, keep=3).dropped[bad] == row["reason"]


@pytest.mark.parametrize("spoil", KINDS, ids=[spoil.__name__ for spoil in KINDS])
def test_a_bad_row_is_an_error_row(
    spoil: Callable[[Path, Row], None], model: vlmsift.Adapter, clean: Run, tmp_path: Path
) -> None:
    rows = llava_rows(COUNT)
    pool = write_pool(tmp_path / "pool", rows)
    spoil(tmp_path / "pool", rows[BAD])
    pool.write_text(json.dumps(rows))
    run = vlmsift.score(pool, model, tmp_path / "run", signals=SIGNALS, engine=EngineSpec(workers=0))
    check(run, clean, *KINDS[spoil])


@pytest.mark.parametrize("line", ['{"id": "r5", "image": "images/5.png", "conv', "", "[1, 2]", '"text"'])
def test_a_line_that_is_no_row(line: str, model: vlmsift.Adapter, clean: Run, tmp_path: Path) -> None:
    pool = write_pool(tmp_path, llava_rows(COUNT), "pool.jsonl")
    lines = pool.read_text().splitlines()
    pool.write_text("\n".join([*lines[:BAD], line, *lines[BAD + 1 :]]))
    run = vlmsift.score(pool, model, tmp_path / "run", signals=SIGNALS, engine=EngineSpec(workers=0))
    if line:
        check(run, clean, "unreadable row", "not", bad=f"row-{BAD}")
    else:  # a blank line is no row at all
        assert run.summary()["ok"] == run.summary()["rows"] == COUNT - 1


@contextmanager
def poisoned(model: vlmsift.Adapter, character: str, value: float) -> Iterator[None]:
    """The embedding of one character's token is `value` throughout."""
    weight = model.model.get_input_embeddings().weight
    token = model.processor.tokenizer.convert_tokens_to_ids(character)
    before = weight[token].clone()
    weight[token] = value
    try:
        yield
    finally:
        weight[token] = before


def test_a_loss_that_is_not_a_number(model: vlmsift.Adapter, clean: Run, tmp_path: Path) -> None:
    rows = llava_rows(COUNT)
    rows[BAD]["conversations"] = conversation("<image>\nWhat is ~ this?", "no")
    with poisoned(model, "~", math.nan):
        run = vlmsift.score(
            write_pool(tmp_path, rows), model, tmp_path / "run", signals=SIGNALS, engine=EngineSpec(workers=0)
        )
    check(run, clean, "not a number", "the answer's loss is nan (try --dtype float32)")


def test_a_sample_that_fails_inside_the_model(
    model: vlmsift.Adapter, clean: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlmsift.scoring import batches

    def failing(capture: Any, batch: Any, needs: Any, measure: Any = batches.measure, **how: Any) -> Any:
        if f"r{BAD}" in batch.ids:
            raise IndexError("index 7 is out of range")
        return measure(capture, batch, needs, **how)

    monkeypatch.setattr(batches, "measure", failing)
    pool = write_pool(tmp_path, llava_rows(COUNT))
    run = vlmsift.score(pool, model, tmp_path / "run", signals=SIGNALS, engine=EngineSpec(workers=0))
    check(run, clean, "failed in the model", "IndexError: index 7 is out of range")


def test_the_models_own_image_token_in_the_text(toy_path: Callable[[str], Path], tmp_path: Path) -> None:
    """Gemma's image token is not the mark `<image>`, so the text can hold it, and no image belongs to it."""
    rows = llava_rows(4)
    rows[2]["conversations"][0]["value"] += " <image_soft_token>"
    run = vlmsift.score(
        write_pool(tmp_path, rows),
        toy_path("gemma3"),
        tmp_path / "run",
        signals=["answer_loss"],
        engine=EngineSpec(workers=0),
    )
    found = run.table().to_pylist()
    assert [row["status"] for row in found] == ["ok", "ok", "error", "ok"]
    assert found[2]["reason"].startswith(("images not located", "refused by the processor"))


def test_all_kinds_in_one_pool_are_counted(model: vlmsift.Adapter, tmp_path: Path) -> None:
    rows = llava_rows(COUNT + len(KINDS))
    pool = write_pool(tmp_path / "pool", rows)
    for row, spoil in zip(rows[COUNT:], KINDS, strict=True):
        spoil(tmp_path / "pool", row)
    pool.write_text(json.dumps(rows))
    summary = vlmsift.score(pool, model, tmp_path / "run", signals=SIGNALS, engine=EngineSpec(workers=0)).summary()
    assert summary["errors"] == Counter(kind for kind, _ in KINDS.values())
    assert summary["ok"] == COUNT
