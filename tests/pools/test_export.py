"""Exporting: every container and format into every other, and every way in which an export is refused."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pools.helpers import SUFFIXES, llava_row, meaning, png, reopened, text_pool, varied_llava_rows, write
from vlmsift.errors import FormatError, UsageError
from vlmsift.pools import FORMATS, Pool, open_image, open_pool

CONTAINERS = list(SUFFIXES)


def target(folder: Path, container: str, name: str = "out") -> str:
    return str(folder / name) + SUFFIXES[container]


def with_bytes() -> list[dict[str, Any]]:
    """Messages whose images are encoded, one of them only a path."""
    content = [{"type": "image"}, {"type": "text", "text": "What?"}]
    turns = [{"role": "user", "content": content}, {"role": "assistant", "content": [{"type": "text", "text": "A."}]}]
    images = [
        {"bytes": png("red"), "path": "r.png"},
        {"bytes": png("blue"), "path": None},
        {"bytes": None, "path": "x.png"},
    ]
    return [{"id": f"m{index}", "messages": turns, "images": [image], "n": 1.5} for index, image in enumerate(images)]


@pytest.mark.parametrize("to_format", list(FORMATS))
@pytest.mark.parametrize("to", CONTAINERS)
@pytest.mark.parametrize("source", CONTAINERS)
def test_everything_into_everything(source: str, to: str, to_format: str, tmp_path: Path) -> None:
    pool = open_pool(write(tmp_path, varied_llava_rows(), source), images=tmp_path)
    out = reopened(pool.export(range(4), target(tmp_path, to), format=to_format), pool)
    assert (out.container, out.format) == (to, to_format)
    assert meaning(out) == meaning(pool)
    # ... and back again, from a format that is not LLaVA.
    back = reopened(out.export([3, 2, 1, 0], target(tmp_path, source, "back"), format="llava"), pool)
    assert meaning(back) == meaning(pool)[::-1]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("to", CONTAINERS)
@pytest.mark.parametrize("source", CONTAINERS)
def test_moved_rows_keep_keys_and_nested_values(source: str, to: str, tmp_path: Path) -> None:
    nested = {"b": [{"c": None, "d": [1, 2]}, {"c": "ä", "d": []}], "e": {"f": True}, "n": None, "big": 2**53 + 1}
    rows = [llava_row(index, extra=nested, x=0.5) for index in range(3)]
    pool = open_pool(write(tmp_path, rows, source))
    out = reopened(pool.export([2, 0], target(tmp_path, to)), pool)
    assert [out[0].row, out[1].row] == [rows[2], rows[0]]
    assert [list(out[0].row), list(out[0].row["extra"])] == [list(rows[2]), list(nested)]


@pytest.mark.parametrize("format", list(FORMATS))
@pytest.mark.parametrize("to", CONTAINERS)
@pytest.mark.parametrize("source", ["parquet", "dataset"])
def test_encoded_images_arrive(source: str, to: str, format: str, tmp_path: Path) -> None:
    pool = open_pool(write(tmp_path, with_bytes(), source))
    out = open_pool(pool.export([1, 0, 2, 1], target(tmp_path / "there", to, "the out"), format=format))
    (out.image_root / "x.png").write_bytes(png("green"))
    assert [out[index].turns for index in range(4)] == [pool[0].turns] * 4
    colors = [open_image(out[index].images[0], out.image_root).getpixel((0, 0)) for index in range(4)]
    assert colors == [(0, 0, 255), (255, 0, 0), (0, 128, 0), (0, 0, 255)]
    assert [out[index].row["n"] for index in range(4)] == [1.5] * 4
    folder = tmp_path / "there" / "the out_images"
    assert folder.exists() == (to in ("json", "jsonl"))
    if folder.exists():
        assert sorted(part.read_bytes() for part in folder.iterdir()) == sorted([png("red"), png("blue")])
        assert out[0].images[0] == "the out_images/" + str(out[0].images[0]).rpartition("/")[2]


def test_encoded_images_become_an_image_feature(tmp_path: Path) -> None:
    import datasets

    pool = open_pool(write(tmp_path, with_bytes(), "parquet"))
    for to in ("parquet", "dataset"):
        out = open_pool(pool.export([0, 2], target(tmp_path, to), format="sharegpt"))
        schema = (
            pq.read_schema(out.path)
            if to == "parquet"
            else datasets.load_from_disk(str(out.path)).features.arrow_schema
        )
        assert datasets.Features.from_arrow_schema(schema)["images"] == datasets.List(datasets.Image())


def test_a_data_url_becomes_a_file_only_when_converted(tmp_path: Path) -> None:
    url = "data:image/png;base64,iVBORw0KGgo="
    pool = open_pool(write(tmp_path, [llava_row(0, image=url)], "json"))
    assert open_pool(pool.export([0], tmp_path / "same.jsonl"))[0].row["image"] == url
    converted = open_pool(pool.export([0], tmp_path / "chat.json", format="messages"))
    assert (tmp_path / str(converted[0].images[0])).read_bytes() == b"\x89PNG\r\n\x1a\n"


def test_a_conversion_keeps_other_fields_and_names_rows_by_sample_id(tmp_path: Path) -> None:
    rows = [llava_row(0, note={"a": [1]}), {**llava_row(1), "id": "r0"}, llava_row(2, system="kept as it is")]
    pool = open_pool(write(tmp_path, rows, "json"))
    out = json.loads(pool.export([1, 0], tmp_path / "out.json", format="messages").read_text())
    assert [row["id"] for row in out] == ["r0#2", "r0"]
    assert out[1]["note"] == {"a": [1]}
    assert list(out[0]) == ["id", "messages", "images"]


def test_indices_may_be_numpy_negative_and_repeated(tmp_path: Path) -> None:
    pool = open_pool(write(tmp_path, varied_llava_rows(), "json"))
    out = open_pool(pool.export(np.array([-1, 0, 0]), tmp_path / "out.json"))
    assert list(out.ids) == ["r3", "r0", "r0#2"]


@pytest.mark.parametrize(
    ("out", "container"),
    [
        ("a.json", "json"),
        ("a.JSONL", "jsonl"),
        ("a.ndjson", "jsonl"),
        ("a.parquet", "parquet"),
        ("new/", "dataset"),
        ("there", "dataset"),
        ("there.v2", "dataset"),
        ("kept", "dataset"),
        ("a.v2", "jsonl"),
        ("deep/er/a.json", "json"),
    ],
)
def test_the_name_says_the_container(out: str, container: str, tmp_path: Path) -> None:
    for name in ("there", "there.v2"):
        (tmp_path / name).mkdir()
    pool = open_pool(write(tmp_path, [llava_row(0)], "jsonl"))
    written = pool.export([0], str(tmp_path) + "/" + out)
    assert written == tmp_path / out
    assert open_pool(written).container == container
    assert pool.export([0], tmp_path / out) == written, "as a Path, which knows no closing slash"
    assert open_pool(written).container == container


def refusals(pool: Pool, folder: Path) -> list[tuple[dict[str, Any], str]]:
    (folder / "full").mkdir()
    (folder / "full" / "keep.txt").touch()
    for name in ("empty", "half"):
        (folder / name).mkdir()
    (folder / "half" / "dataset_info.json").touch()
    (folder / "notes.json").write_text('{"mine": 1}')
    return [
        ({"indices": [], "out": folder / "x.json"}, "no row was chosen"),
        ({"indices": [4], "out": folder / "x.json"}, "row 4 of a pool with 4 rows"),
        ({"indices": [0], "out": folder / "x.json", "format": "alpaca"}, "no format 'alpaca'; known are"),
        ({"indices": [0], "out": folder / "x.json", "container": "csv"}, "no container 'csv'; known are"),
        ({"indices": [0], "out": pool.path}, "is the pool"),
        ({"indices": [0], "out": folder / "full" / ".." / pool.path.name}, "is the pool"),
        ({"indices": [0], "out": folder / "full"}, "folder that holds other things"),
        ({"indices": [0], "out": folder / "full", "container": "json"}, "folder that holds other things"),
        ({"indices": [0], "out": folder / "empty", "container": "json"}, "folder that holds no saved data set"),
        ({"indices": [0], "out": folder / "half"}, "folder that holds no saved data set"),
        ({"indices": [0], "out": folder / "notes.json"}, "notes.json is there, and no export wrote it"),
        ({"indices": [0], "out": str(folder / "full" / "keep.txt"), "container": "dataset"}, "is a file"),
    ]


def test_refused_exports_leave_everything_as_it_was(tmp_path: Path) -> None:
    pool = open_pool(write(tmp_path, varied_llava_rows(), "json"))
    cases = refusals(pool, tmp_path)
    before = pool.path.read_bytes()
    for arguments, reason in cases:
        with pytest.raises(UsageError, match=reason):
            pool.export(**arguments)
        if "row" not in reason:  # the others can be told before anything is chosen
            with pytest.raises(UsageError, match=reason):
                pool.check_export(**{key: value for key, value in arguments.items() if key != "indices"})
    assert sorted(part.name for part in tmp_path.iterdir()) == ["empty", "full", "half", "notes.json", "pool.json"]
    assert pool.path.read_bytes() == before


def test_a_saved_data_set_with_other_things_beside_it_is_left_alone(tmp_path: Path) -> None:
    pool = open_pool(write(tmp_path, varied_llava_rows(), "json"))
    out = pool.check_export(tmp_path / "kept")
    assert not out.exists()
    for chosen in ([0, 1], [3]):
        assert reopened(pool.export(chosen, out), pool).ids == [pool.ids[index] for index in chosen]
    (out / "precious.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(UsageError, match=r"kept is a folder that holds other things \('precious.txt'\)"):
        pool.export([0], out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_an_empty_file_and_an_earlier_export_are_replaced(tmp_path: Path) -> None:
    pool = open_pool(write(tmp_path, varied_llava_rows(), "json"))
    out = tmp_path / "kept.jsonl"
    out.touch()
    for chosen in ([0], [1, 3]):
        assert len(open_pool(pool.export(chosen, out))) == len(chosen)


def test_a_million_spaces_are_gone_through_once(tmp_path: Path) -> None:
    """Where a row must fit one line, line breaks between its tokens go, and nothing in its texts."""
    value = f'[{{"from": "gpt", "value": "{" " * 1_000_000}"}}]'
    path = text_pool(tmp_path, f'[{{"conversations":\r\n {value}\n \n}}]')
    pool = open_pool(path)
    started = time.monotonic()
    line = pool.export([0], tmp_path / "out.jsonl").read_text()
    assert time.monotonic() - started < 20
    assert line == f'{{"conversations":{value}}}\n'


def test_no_export_into_the_folder_of_the_pool(tmp_path: Path) -> None:
    write(tmp_path, [llava_row(0)], "jsonl")
    with pytest.raises(UsageError, match="lies in it"):
        open_pool(tmp_path).export([0], tmp_path / "kept.jsonl")


@pytest.mark.parametrize("to", ["parquet", "dataset"])
def test_mixed_types_are_named_and_leave_nothing(to: str, tmp_path: Path) -> None:
    rows = [llava_row(0), llava_row(1, image=["a.png"])]
    pool = open_pool(write(tmp_path, rows, "json"))
    old = pool.export([0], tmp_path / "out.parquet").read_bytes()
    with pytest.raises(FormatError, match=r"field 'image' \(list, str\).*Export them as \.jsonl"):
        pool.export([0, 1], target(tmp_path, to))
    assert sorted(part.name for part in tmp_path.iterdir()) == ["out.parquet", "pool.json"]
    assert (tmp_path / "out.parquet").read_bytes() == old


def test_an_unusable_row_cannot_be_converted(tmp_path: Path) -> None:
    pool = open_pool(write(tmp_path, [llava_row(0), llava_row(1, video="a.mp4")], "json"))
    with pytest.raises(FormatError, match=r"row 1 \(id 'r1'\) cannot be converted: videos are .* \(llava, json\)"):
        pool.export([0, 1], tmp_path / "out.json", format="messages")
    assert len(open_pool(pool.export([0, 1], tmp_path / "out.json"))) == 2


def test_what_json_cannot_say_is_written_as_text(tmp_path: Path) -> None:
    from datetime import date

    rows = [{"id": "a", "conversations": [{"from": "gpt", "value": "x"}], "day": date(2020, 1, 2), "nan": float("nan")}]
    pool = open_pool(write(tmp_path, rows, "parquet"))
    text = pool.export([0], tmp_path / "out.jsonl").read_text()
    assert '"day": "2020-01-02", "nan": NaN}' in text


def test_more_than_one_chunk_of_rows(tmp_path: Path) -> None:
    first = [llava_row(index) for index in range(1030)]
    pool = open_pool(write(tmp_path, [*first, llava_row(1030, late=[{"x": 1}])], "json"))
    out = reopened(pool.export(range(1031), tmp_path / "out.parquet"), pool)
    assert meaning(out) == meaning(pool)
    assert (out[0].row["late"], out[1030].row["late"]) == (None, [{"x": 1}])
    assert pa.types.is_list(pq.read_schema(out.path).field("late").type)
