"""Finding rows in JSON text: the fast way, the slow way, and where they say a fault lies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmsift.errors import FormatError
from vlmsift.pools.json_faults import split_slowly
from vlmsift.pools.json_spans import array_spans, is_lines, line_spans

PATH = Path("some pool.json")

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def pieces(text: bytes, spans: object) -> list[object]:
    return [json.loads(text[start:end]) for start, end in spans]  # type: ignore[attr-defined]


@given(st.lists(values, max_size=5), st.sampled_from([None, 0, 1, 3]), st.booleans())
def test_every_element_is_found_by_both_ways(rows: list[object], indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(rows, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert pieces(text, array_spans(text, 0, PATH)) == rows
    assert split_slowly(text, 0, PATH).tolist() == array_spans(text, 0, PATH).tolist()


@given(st.lists(values, max_size=5), st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\n"]), st.booleans())
def test_every_line_is_found(rows: list[object], line_end: str, last: bool) -> None:
    text = (line_end.join(json.dumps(row) for row in rows) + line_end * last).encode()
    assert pieces(text, line_spans(text, 0)) == rows


def test_line_ends_and_blank_lines_are_no_part_of_a_row() -> None:
    text = b'\n{"a": 1}\r\n \t\r\n\r\n{"b": 2} \n [3]'
    assert [text[start:end] for start, end in line_spans(text, 1)] == [b'{"a": 1}', b'{"b": 2} ', b" [3]"]


def test_a_list_in_an_object_is_found() -> None:
    text = b'{"version": [1], "data": [ {"a": 1} , {"a": [2]}], "more": null}'
    assert pieces(text, array_spans(text, 0, PATH)) == [{"a": 1}, {"a": [2]}]


@pytest.mark.parametrize(
    "row",
    [
        '{"a": NaN}',
        r'{"a": "\\", "n": NaN, "b": "]"}',
        r'{"n": NaN, "b": "\"]"}',
        '{"a": [-Infinity]}',
        '{"a": "\\ud83d"}',
        "[" * 600 + "]" * 600,
    ],
)
def test_what_python_writes_beyond_json_is_taken(row: str) -> None:
    text = f'[ {{"b": "]}}"}},\n {row} , 3]'.encode()
    spans = array_spans(text, 0, PATH)
    assert [text[start:end].decode() for start, end in spans] == ['{"b": "]}"}', row, "3"]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('[{"a": 1},\n {"a": tru}]', r"line 2 \(byte 18, row 1\)"),
        ('[{"a": 1}\n {"a": 2}]', r"line 2 \(byte 11, row 0\)"),
        ('[{"a": 1},\n]', r"line \d \(byte \d+, row 1\)"),
        ('[{"a": 1},\n {"a": "x', r"inside row 1, which begins in line"),
        ('[{"a": 1},', r"inside row 1"),
        ("[", "inside row 0"),
        ('[{"a": 1}]\n[{"a": 2}]', r"line \d \(byte 10\)"),
        ('[{"a": "tab\tand\nbreak"}]', "row 0"),
        ('{"data": [1, 2', "truncated"),
        ('{"data": {"a": 1}}', 'under "data"'),
        ('{"rows": [1], "x": 2}', r"'rows', 'x'.*Put \[ \]"),
        ("{}", "one object"),
        ("<html>", "starts with b'<html>'"),
        ('"text"', "starts with"),
    ],
)
def test_a_fault_is_named_by_place(text: str, where: str) -> None:
    with pytest.raises(FormatError, match=where) as caught:
        array_spans(text.encode(), 0, PATH)
    assert "some pool.json" in str(caught.value)


def test_one_object_per_line_is_told_from_one_object() -> None:
    assert is_lines(b'{"a": 1}\n{"b": 2}\n', 0)
    assert is_lines(b'{"a": 1} \r\n\r\n {"b": 2}', 0)
    assert not is_lines(b'{"a": 1}\n', 0)
    assert not is_lines(b'{"a": 1}', 0)
    assert not is_lines(b'{\n "a": {}\n}', 0)
    assert not is_lines(b'{"data": [{"a": 1},\n{"a": 2}]}', 0)
