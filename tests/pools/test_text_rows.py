"""JSON and JSONL: source text copied byte for byte in both directions; faults are one row's, or a sentence."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest

from tests.pools.helpers import llava_row, raw_rows, text_pool, write
from vlmsift.errors import FormatError, SampleError
from vlmsift.pools import open_pool
from vlmsift.pools.text_rows import TextRows

TURNS = '"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]'
# Each row is something that decoding and encoding again would change.
DELICATE = [
    '{"id": 1.0, "n": [1e0, 1E+2, -0, -0.0, 0.10, 12345678901234567890, 1234567890123456789012345], ' + TURNS + "}",
    '{"id": "\\u00e9", "é": "é \\u00e9 \\/ / \\ud83d\\ude00 😀 \\u0000 \\u2028", ' + TURNS + "}",
    '{"id": 3, "id": 4, "a": 1, "a": {"b": null, "b": []}, ' + TURNS + "}",
    '{"z": null, "a": [null, [], {}, [[{"x": null}]]], "id": null, ' + TURNS + "}",
    '{ "id" :  "spaces" ,\t"x": [ ] , ' + TURNS + " }",
    '{"id": 1e400, ' + TURNS + "}",
]
BEYOND_JSON = [
    '{"id": "n", "x": [NaN, Infinity, -Infinity], ' + TURNS + "}",
    '{"id": "s", "x": "\\ud83d", ' + TURNS + "}",
]


@pytest.mark.parametrize("rows", [DELICATE, [*DELICATE, *BEYOND_JSON]], ids=["json", "with NaN"])
@pytest.mark.parametrize(("source", "target"), [(a, b) for a in ("json", "jsonl") for b in ("json", "jsonl")])
def test_values_are_byte_equal(source: str, target: str, rows: list[str], tmp_path: Path) -> None:
    text = "[" + " ,\n ".join(rows) + "]" if source == "json" else "\n".join(rows)
    pool = open_pool(text_pool(tmp_path, text, f"pool.{source}"))
    order = [len(rows) - 1, 0, 3, *range(len(rows))]
    out = pool.export(order, tmp_path / f"out.{target}")
    assert raw_rows(out) == [rows[index] for index in order]


@pytest.mark.parametrize("indent", [None, 0, 1, 4])
def test_exporting_a_whole_list_copies_the_file(indent: int | None, tmp_path: Path) -> None:
    text = json.dumps([llava_row(index) for index in range(5)], indent=indent, ensure_ascii=False) + "\n\n"
    pool = open_pool(text_pool(tmp_path, text))
    assert pool.export(range(5), tmp_path / "out.json").read_text("utf-8") == text


def test_a_byte_order_mark_is_not_handed_on(tmp_path: Path) -> None:
    text = json.dumps([llava_row(0)])
    pool = open_pool(text_pool(tmp_path, "\ufeff" + text))
    assert pool.export([0], tmp_path / "out.json").read_text("utf-8") == text


def test_what_is_around_the_rows_of_an_object_is_kept(tmp_path: Path) -> None:
    rows = ", ".join(json.dumps(llava_row(index)) for index in range(3))
    pool = open_pool(text_pool(tmp_path, '{"version": 1e0, "data": [' + rows + '], "licence": "x"}'))
    written = json.loads(pool.export([2, 0], tmp_path / "out.json").read_text())
    assert written == {"version": 1.0, "data": [llava_row(2), llava_row(0)], "licence": "x"}


def test_an_indented_row_becomes_one_line(tmp_path: Path) -> None:
    pool = open_pool(write(tmp_path, [llava_row(0), llava_row(1, note="a\n  b")], "json"))
    lines = pool.export([0, 1], tmp_path / "out.jsonl").read_bytes().split(b"\n")
    assert [json.loads(line) for line in lines if line] == [llava_row(0), llava_row(1, note="a\n  b")]
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("name", "text", "container"),
    [
        ("a.json", "\ufeff[ROW,\nROW]", "json"),
        ("a.json", "\n  [ROW, ROW]\n", "json"),
        ("a.json", "ROW\nROW\n", "jsonl"),
        ("a.jsonl", "[ROW, ROW]", "json"),
        ("a.jsonl", "\ufeffROW\r\n\r\n  \nROW", "jsonl"),
        ("a.ndjson", "ROW\nROW", "jsonl"),
    ],
)
def test_a_file_is_read_as_what_it_is(name: str, text: str, container: str, tmp_path: Path) -> None:
    pool = open_pool(text_pool(tmp_path, text.replace("ROW", json.dumps(llava_row(7))), name))
    assert (pool.container, [pool[0].row, pool[1].row], len(pool)) == (container, [llava_row(7)] * 2, 2)


def test_parts_are_one_pool(tmp_path: Path) -> None:
    for part in range(3):
        write(tmp_path, [llava_row(2 * part), llava_row(2 * part + 1)], "jsonl", f"part-{part}")
    (tmp_path / ".hidden.jsonl").write_text("{}")
    (tmp_path / "part-1b.jsonl").write_text("")
    pool = open_pool(tmp_path)
    assert list(pool.ids) == [f"r{index}" for index in range(6)]
    assert [pool[index].id for index in range(6)] == list(pool.ids)
    assert pool.image_root == tmp_path


def test_a_broken_line_is_one_row(tmp_path: Path) -> None:
    good = json.dumps(llava_row(0))
    pool = open_pool(text_pool(tmp_path, good + '\n{"id": "cut", "conv\n' + "[1]\n" + good, "pool.jsonl"))
    assert list(pool.ids) == ["r0", "row-1", "row-2", "r0#2"]
    with pytest.raises(SampleError, match="not JSON"):
        pool[1]
    with pytest.raises(SampleError, match="is a list, not an object"):
        pool[2]
    assert pool[3].turns == pool[0].turns
    out = pool.export([1, 0], tmp_path / "dropped.jsonl")
    assert out.read_text() == '{"id": "cut", "conv\n' + good + "\n"
    with pytest.raises(FormatError, match=r"row 1 cannot go into a JSON list.*\.jsonl"):
        pool.export([0, 1], tmp_path / "dropped.json")
    assert not (tmp_path / "dropped.json").exists()


def test_a_row_that_is_not_utf8_is_one_row(tmp_path: Path) -> None:
    good = json.dumps(llava_row(0)).encode()
    pool = open_pool(text_pool(tmp_path, b"[" + good + b', {"id": "bad", "x": "\xff"}]'))
    assert list(pool.ids) == ["r0", "bad"]
    with pytest.raises(SampleError, match="utf-8"):
        pool[1]
    assert b'"\xff"' in pool.export([1], tmp_path / "out.json").read_bytes()


def test_a_list_among_parts_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [llava_row(0)], "jsonl", "a")
    text_pool(tmp_path, "[{}]", "b.jsonl")
    with pytest.raises(FormatError, match=r"b\.jsonl.*one object per line"):
        open_pool(tmp_path)


def test_fields_come_without_the_rest_of_the_row(tmp_path: Path) -> None:
    text = '{"id": 1.0, "x": "\xff", "a b": {"c": null}}\n{"id": NaN}\nnot json\n{"a b": 1e400}'
    rows = TextRows((text_pool(tmp_path, text, "rows.jsonl"),))
    found = list(rows.fields(["id", "a b"]))
    assert found[0] == {"id": 1.0, "a b": {"c": None}}
    assert list(found[1]) == ["id"]
    assert found[2:] == [{}, {"a b": float("inf")}]


def test_rows_can_be_pickled_and_read_after_a_fork(tmp_path: Path) -> None:
    pool = open_pool(write(tmp_path, [llava_row(index) for index in range(50)], "json"))
    samples = [pool[index] for index in range(50)]
    copy = pickle.loads(pickle.dumps(pool))  # noqa: S301  # our own bytes
    assert [copy[index] for index in range(50)] == samples
    child = os.fork()
    if child == 0:
        os._exit(0 if [pool[index] for index in range(50)] == samples else 1)
    assert os.waitpid(child, 0)[1] == 0
