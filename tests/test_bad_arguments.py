"""Whole runs that cannot be meant: each is refused before anything is written, by a sentence that says what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vlmsift
from tests.sample_pools import llava_rows, write_pool
from tests.specs import with_specs
from vlmsift.errors import FormatError, UsageError, VlmsiftError

Changes = dict[str, Any]


def empty(folder: Path) -> Changes:
    (folder / "empty.json").write_text("[]")
    return {"pool": folder / "empty.json"}


def unreadable(folder: Path) -> Changes:
    (folder / "broken.json").write_text((folder / "pool.json").read_text()[:700])
    return {"pool": folder / "broken.json"}


def wrong_images(folder: Path) -> Changes:
    (folder / "pictures").mkdir()
    return {"images": folder / "pictures"}


def not_a_run(folder: Path) -> Changes:
    (folder / "notes").mkdir()
    (folder / "notes" / "todo.txt").write_text("x")
    return {"out": folder / "notes"}


def given(**changes: Any) -> Callable[[Path], Changes]:
    """Arguments as they are; a value "below/NAME" is a path in the folder of the test."""

    def problem(folder: Path) -> Changes:
        paths = {key: folder / str(value)[6:] for key, value in changes.items() if str(value).startswith("below/")}
        return {**changes, **paths}

    return problem


PROBLEMS: dict[str, tuple[Callable[[Path], Changes], type[VlmsiftError], str]] = {
    "no such pool": (
        given(pool="below/data.json"),
        FormatError,
        r"data\.json: no such file.*holds: images/, pool\.json",
    ),
    "empty pool": (empty, FormatError, r"empty\.json: holds no rows"),
    "unreadable JSON": (unreadable, FormatError, r"broken\.json: the list does not end; .* line \d+"),
    "no image folder": (given(images="below/img"), UsageError, r"no image folder .*img"),
    "wrong image folder": (
        wrong_images,
        UsageError,
        r"not one of the first 20 images .*pool\.json .*'images/0\.png'.*pictures; name .*--images",
    ),
    "no such model folder": (given(model="below/llava"), UsageError, r"no model folder '.*llava'; check the path"),
    "folder without model": (given(model="below/images"), VlmsiftError, r"images'?: "),
    "unknown hub name": (given(model="nobody/nothing"), UsageError, r"'nobody/nothing'.*full name"),
    "unknown dtype": (given(dtype="int4"), UsageError, r"model: dtype='int4' cannot be meant; give one of auto"),
    "unknown device": (given(device="cuda:77"), UsageError, r"device 'cuda:77' cannot be used here"),
    "unknown signal": (given(signals=["delta"]), UsageError, r"no signal 'delta'; choose among delta_attnmask"),
    "unknown field": (given(signals=["delta_attnmask:dept=1"]), UsageError, r"no field 'dept' .* depth"),
    "wrong value": (given(signals=["delta_attnmask:rows=some"]), UsageError, r"rows='some' cannot be meant"),
    "column twice": (given(signals=["random", "random"]), UsageError, r"'random' is asked for twice"),
    "column taken": (given(signals=["status=random"]), UsageError, r"cannot be called 'status'"),
    "unknown format": (given(format="alpaca"), UsageError, r"no format 'alpaca'; known are"),
    "no source field": (given(source_field="topic"), UsageError, r"no row .* has a field 'topic'"),
    "parts of nothing": (
        given(part_size=0),
        UsageError,
        r"engine: part_size=0 cannot be meant; .* at least 1",
    ),
    "no tokens": (given(tokens_per_batch=-3), UsageError, r"tokens_per_batch=-3 cannot be meant"),
    "workers": (given(workers=-1), UsageError, r"workers=-1 cannot be meant"),
    "run among others": (not_a_run, UsageError, r"notes is not empty and not a run \(it holds 'todo\.txt'\)"),
    "run in a file": (given(out="below/pool.json"), UsageError, r"pool\.json is a file"),
    "run below a file": (
        given(out="below/pool.json/run"),
        UsageError,
        r"pool\.json/run cannot be: .*pool\.json is a file\. Name another place",
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_run_that_cannot_be_meant_is_a_sentence(name: str, toy_path: Callable[[str], Path], tmp_path: Path) -> None:
    problem, kind, told = PROBLEMS[name]
    write_pool(tmp_path, llava_rows(24))
    usual = {"pool": tmp_path / "pool.json", "model": toy_path("llava"), "out": tmp_path / "run", "workers": 0}
    with pytest.raises(kind, match=re.compile(told, re.DOTALL)):
        vlmsift.score(**with_specs(**{**usual, **problem(tmp_path)}))
    assert not (tmp_path / "run").exists()


def test_what_is_no_run_is_not_selected_from(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such run folder"):
        vlmsift.select(tmp_path / "run")
    with pytest.raises(UsageError, match=r"is no run: it has no run\.json"):
        vlmsift.select(tmp_path)
