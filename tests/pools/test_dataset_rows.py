"""Saved Hugging Face data sets: features kept, images neither decoded nor opened."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pools.helpers import png, write
from vlmsift.errors import FormatError
from vlmsift.pools import open_pool
from vlmsift.pools.arrow_writing import write_tables

FEATURES = datasets.Features(
    {
        "images": datasets.List(datasets.Image()),
        "id": datasets.Value("int32"),
        "label": datasets.ClassLabel(names=["good", "bad"]),
        "messages": datasets.List({"role": datasets.Value("string"), "content": datasets.Value("large_string")}),
    }
)


def dataset(rows: int = 6) -> datasets.Dataset:
    question, answer = {"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "yes"}
    columns = {
        "images": [[{"bytes": png("red" if row % 2 else "blue"), "path": "x.png"}] for row in range(rows)],
        "id": list(range(rows)),
        "label": [row % 2 for row in range(rows)],
        "messages": [[question, answer]] * rows,
    }
    info = datasets.DatasetInfo(description="Six pictures.", license="CC0", features=FEATURES)
    return datasets.Dataset.from_dict(columns, info=info, split=datasets.Split.TRAIN)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    dataset().save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


def test_images_are_their_stored_bytes(path: Path) -> None:
    pool = open_pool(path)
    assert (pool.container, pool.format, list(pool.ids)) == ("dataset", "sharegpt", list("012345"))
    assert [pool[index].images for index in (0, 1)] == [(png("blue"),), (png("red"),)]
    assert pool[1].row["images"] == [{"bytes": png("red"), "path": "x.png"}]


def test_features_description_and_order_are_kept(path: Path, tmp_path: Path) -> None:
    out = open_pool(path).export([4, 1, 1], str(tmp_path / "kept") + "/")
    kept = datasets.load_from_disk(str(out))
    assert kept.features == FEATURES
    assert (kept.split, kept.info.description, kept.info.license) == ("train", "Six pictures.", "CC0")
    assert kept["id"][:] == [4, 1, 1]
    assert kept[1]["images"][0].getpixel((0, 0)) == (255, 0, 0)
    assert kept.with_format("arrow")[:].to_pylist() == dataset().with_format("arrow")[[4, 1, 1]].to_pylist()


def test_an_image_that_is_only_a_path_stays_one(tmp_path: Path) -> None:
    turns = datasets.List({"from": datasets.Value("string"), "value": datasets.Value("string")})
    features = datasets.Features({"image": datasets.Image(), "conversations": turns})
    row = {"image": {"bytes": None, "path": "a.png"}, "conversations": [{"from": "human", "value": "<image>"}]}
    values = pa.array([row], pa.struct(list(features.arrow_schema)))
    write_tables([pa.Table.from_struct_array(values)], features.arrow_schema, tmp_path / "saved", "dataset")
    pool = open_pool(tmp_path / "saved")
    out = open_pool(pool.export([0], str(tmp_path / "kept") + "/"))
    assert out[0].row == pool[0].row == row
    assert out[0].images == ("a.png",)
    assert datasets.load_from_disk(str(out.path)).features == features


def test_between_parquet_and_data_set_the_features_stay(path: Path, tmp_path: Path) -> None:
    parquet = open_pool(path).export([2, 0], tmp_path / "kept.parquet")
    assert datasets.Features.from_arrow_schema(pq.read_schema(parquet)) == FEATURES
    back = open_pool(parquet).export([0, 1], str(tmp_path / "back") + "/")
    assert datasets.load_from_disk(str(back)).features == FEATURES
    assert open_pool(back)[1].row == open_pool(path)[0].row


def test_features_that_only_the_description_tells_are_kept(path: Path, tmp_path: Path) -> None:
    stream = next(path.glob("*.arrow"))
    table = pa.ipc.open_stream(stream.read_bytes()).read_all().replace_schema_metadata(None)
    with pa.ipc.new_stream(str(stream), table.schema) as writer:
        writer.write_table(table)
    pool = open_pool(path)
    parquet = pool.export([2, 0], tmp_path / "kept.parquet")
    assert datasets.Features.from_arrow_schema(pq.read_schema(parquet)) == FEATURES
    saved = pool.export([0], tmp_path / "kept", container="dataset")
    told = pa.ipc.open_stream(next(saved.glob("*.arrow")).read_bytes()).schema
    assert datasets.Features.from_arrow_schema(told) == FEATURES


def test_an_existing_data_set_is_replaced(path: Path, tmp_path: Path) -> None:
    pool = open_pool(path)
    for order in ([0, 1, 2], [5]):
        pool.export(order, tmp_path / "kept", container="dataset")
    assert list(open_pool(tmp_path / "kept").ids) == ["5"]
    assert sorted(part.name for part in tmp_path.iterdir()) == ["kept", "saved"]


def test_a_data_set_with_splits_names_them(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": dataset(), "test": dataset(2)}).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(FormatError, match=r"splits test, train\. Open one of them: .*saved/test or"):
        open_pool(tmp_path / "saved")
    assert len(open_pool(tmp_path / "saved" / "test")) == 2


def test_a_data_set_that_lost_a_file(path: Path) -> None:
    next(path.glob("*.arrow")).unlink()
    with pytest.raises(FormatError, match="cannot be loaded"):
        open_pool(path)


def test_a_saved_selection_is_read_as_selected(tmp_path: Path) -> None:
    dataset().select([3, 1]).with_format("numpy", columns=["id"]).save_to_disk(str(tmp_path / "saved"))
    pool = open_pool(tmp_path / "saved")
    assert list(pool.ids) == ["3", "1"]
    out = pool.export([1], str(tmp_path / "kept") + "/")
    assert json.loads((out / "state.json").read_text())["_format_columns"] == ["id"]
    assert open_pool(out)[0].row == pool[1].row


def test_a_written_row_is_a_data_set_too(tmp_path: Path) -> None:
    pool = open_pool(write(tmp_path, [{"id": "a", "messages": [{"role": "user", "content": "x"}]}], "dataset"))
    assert pool[0].turns[0].text == "x"


@pytest.mark.skipif(not hasattr(datasets, "Json"), reason="this version of datasets has no Json feature")
def test_values_of_mixed_types_are_read_as_what_they_are(tmp_path: Path) -> None:
    parts = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "q"}]
    rows = [
        {"id": 7, "messages": [{"role": "user", "content": parts}, {"role": "user", "content": "hi"}], "x": {"a": 1}},
        {"id": "r", "messages": [{"role": "assistant", "content": "yes"}], "x": None},
    ]
    data = datasets.Dataset.from_list(rows, on_mixed_types="use_json")
    data.save_to_disk(str(tmp_path / "saved"))
    data.to_parquet(tmp_path / "saved.parquet")
    for name in ("saved", "saved.parquet"):
        pool = open_pool(tmp_path / name)
        assert list(pool.ids) == ["7", "r"]
        assert [turn.text for index in range(2) for turn in pool[index].turns] == ["<image>q", "hi", "yes"]
        assert pool[0].images == ("a.png",)
        assert [pool[index].row for index in range(2)] == rows
        for out in (tmp_path / "kept.parquet", tmp_path / "kept"):
            kept = open_pool(pool.export([1, 0], out, container="parquet" if out.suffix else "dataset"))
            assert [kept[index].row for index in range(2)] == rows[::-1]
        assert [json.loads(line) for line in pool.export([0, 1], tmp_path / "out.jsonl").open()] == rows


def test_rows_can_be_pickled(path: Path) -> None:
    pool = open_pool(path)
    assert pickle.loads(pickle.dumps(pool))[4] == pool[4]  # noqa: S301  # our own bytes
