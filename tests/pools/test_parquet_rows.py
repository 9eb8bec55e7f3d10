"""Parquet: rows read late, schema and values kept, damaged files named."""

from __future__ import annotations

import pickle
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pools.helpers import llava_row, png, write
from vlmsift.errors import FormatError, SampleError
from vlmsift.pools import open_pool

TURN = pa.struct([pa.field("from", pa.dictionary(pa.int8(), pa.string())), pa.field("value", pa.large_string())])
SCHEMA = pa.schema(
    [
        pa.field("score", pa.float32(), metadata={"unit": "nats"}),
        pa.field("id", pa.uint64(), nullable=False),
        pa.field("conversations", pa.list_(TURN)),
        pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        pa.field("when", pa.timestamp("us", tz="UTC")),
        pa.field("price", pa.decimal128(8, 2)),
        pa.field("tags", pa.map_(pa.string(), pa.int16())),
        pa.field("nothing", pa.null()),
        pa.field("source", pa.string()),
    ],
    metadata={"made by": "a test"},
)


def table(first: int, rows: int) -> pa.Table:
    turns = [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "yes"}]
    values = [
        {
            "score": None if index % 3 else index / 7,
            "id": 2**63 + index,
            "conversations": turns,
            "image": {"bytes": png(), "path": None},
            "when": datetime(2020, 1, 1, second=index),
            "price": Decimal("1.10"),
            "tags": [("a", index)],
            "source": f"s{index % 2}",
        }
        for index in range(first, first + rows)
    ]
    return pa.Table.from_pylist(values, schema=SCHEMA)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """20 rows in two parts of four row groups each."""
    folder = tmp_path / "parts"
    folder.mkdir()
    for part in range(2):
        pq.write_table(table(10 * part, 10), folder / f"{part}.parquet", row_group_size=3)
    return folder


def test_rows_come_in_order_from_all_parts(folder: Path) -> None:
    pool = open_pool(folder)
    expected = [str(2**63 + index) for index in range(20)]
    assert list(pool.ids) == expected
    assert [pool[index].id for index in range(20)] == expected
    assert [pool[index].row["id"] for index in (19, 0, 7)] == [2**63 + index for index in (19, 0, 7)]
    assert pool.source(3) == "s1"
    assert (pool[0].images, pool.container) == ((png(),), "parquet")


def test_schema_values_and_order_are_kept(folder: Path, tmp_path: Path) -> None:
    order = [13, 2, 2, 19, 0, 3]
    out = open_pool(folder).export(order, tmp_path / "out.parquet")
    assert pq.read_schema(out).equals(pq.read_schema(folder / "0.parquet"), check_metadata=True)
    assert pq.read_table(out).to_pylist() == pa.concat_tables([table(0, 20)]).take(order).to_pylist()


def test_a_long_export_in_any_order(folder: Path, tmp_path: Path) -> None:
    order = [(7 * index) % 20 for index in range(3000)]  # more than one chunk
    out = open_pool(folder).export(order, tmp_path / "out.parquet")
    assert pq.read_table(out, columns=["id"])["id"].to_pylist() == [2**63 + index for index in order]


def damage(path: Path, column: int) -> None:
    """Overwrite a column's values in the first row group."""
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(column)
    content = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(content)


def test_only_the_id_columns_are_read_for_ids(folder: Path) -> None:
    damage(folder / "1.parquet", 4)  # image.bytes
    pool = open_pool(folder)
    assert len(set(pool.ids)) == 20
    assert pool[9].images == (png(),)
    with pytest.raises(SampleError, match="cannot be read"):
        pool[10]


def test_damaged_ids_name_the_file(folder: Path) -> None:
    damage(folder / "1.parquet", 1)
    with pytest.raises(FormatError, match=r"1\.parquet: columns \['id', 'source'\] cannot be read"):
        len(open_pool(folder).ids)


def test_a_cut_off_file(tmp_path: Path) -> None:
    path = write(tmp_path, [llava_row(0)], "parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FormatError, match=r"not a whole Parquet file.*Download it again"):
        open_pool(path)


def test_parts_with_other_columns(folder: Path) -> None:
    pq.write_table(table(0, 1).drop_columns(["price"]), folder / "2.parquet")
    with pytest.raises(FormatError, match=r"2\.parquet: columns .* differ from"):
        open_pool(folder)
    other = table(0, 1).set_column(1, "id", pa.array(["x"]))
    pq.write_table(other, folder / "2.parquet")
    with pytest.raises(FormatError, match=r"column 'id' is string, but uint64 in 0\.parquet"):
        open_pool(folder)


def test_rows_can_be_pickled(folder: Path) -> None:
    pool = open_pool(folder)
    before = pool[4]
    assert pickle.loads(pickle.dumps(pool))[4] == before  # noqa: S301  # our own bytes


def test_an_object_of_lists_is_read_as_turns(tmp_path: Path) -> None:
    turns = {"from": ["human", "gpt"], "value": ["q", "a"]}
    pool = open_pool(write(tmp_path, [{"id": "x", "conversations": turns}], "parquet"))
    assert (pool.format, [turn.text for turn in pool[0].turns]) == ("llava", ["q", "a"])


@pytest.mark.skipif(not hasattr(pa, "json_"), reason="this version of pyarrow has no JSON type")
def test_json_columns_are_decoded_and_nulls_stay(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "q"}]
    mixed = pa.array([None, '{"a": [1]}', '"x"'], pa.json_(pa.string()))
    table = pa.table({"id": [1, 2, 3], "conversations": [turns] * 3, "mixed": mixed})
    pq.write_table(table, tmp_path / "pool.parquet")
    pool = open_pool(tmp_path / "pool.parquet")
    assert [pool[index].row["mixed"] for index in range(3)] == [None, {"a": [1]}, "x"]
