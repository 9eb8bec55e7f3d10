"""Three real data sets of some 3,000 rows: all samples read, every container and format in and out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pools.helpers import SHARED, SUFFIXES, meaning, raw_rows, reopened
from vlmsift.pools import FORMATS, Pool, open_image, open_pool

ROWS = {"easy_vqa": 2990, "nlvr": 3000, "openstax": 2317}


@pytest.fixture(scope="module", params=list(ROWS))
def pool(request: pytest.FixtureRequest) -> Pool:
    path = SHARED / request.param / "data.json"
    if not path.exists():
        pytest.skip(f"no data set {path}; name its folder in VLMSIFT_SHARED_DATA")
    return open_pool(path)


def test_every_sample_is_read(pool: Pool) -> None:
    samples = [pool[index] for index in range(len(pool))]
    assert (len(pool), pool.format, pool.container) == (ROWS[pool.path.parent.name], "llava", "json")
    assert [sample.id for sample in samples] == [sample.row["id"] for sample in samples]
    assert len(set(pool.ids)) == len(pool)
    assert all(len(sample.images) == 1 and sample.answer for sample in samples)
    for sample in samples[::40]:
        assert open_image(sample.images[0], pool.image_root).mode == "RGB"


def test_json_export_is_byte_equal(pool: Pool, tmp_path: Path) -> None:
    whole = pool.export(range(len(pool)), tmp_path / "all.json")
    assert whole.read_bytes() == pool.path.read_bytes()
    chosen = list(range(0, len(pool), 5))[::-1]
    source = raw_rows(pool.path)
    assert raw_rows(pool.export(chosen, tmp_path / "fifth.json")) == [source[index] for index in chosen]


@pytest.mark.parametrize("container", list(SUFFIXES))
def test_every_container_and_format_and_back(pool: Pool, container: str, tmp_path: Path) -> None:
    chosen = list(range(0, len(pool), 50))
    whole = meaning(pool)
    expected = [whole[index] for index in chosen]
    for format in FORMATS:
        there = reopened(pool.export(chosen, f"{tmp_path}/{format}{SUFFIXES[container]}", format=format), pool)
        assert (there.format, there.container) == (format, container)
        assert meaning(there) == expected
        for other in FORMATS:
            out = f"{tmp_path}/{format}-{other}{SUFFIXES[container]}"
            back = reopened(there.export(range(len(chosen)), out, format=other), pool)
            assert (back.format, meaning(back)) == (other, expected)


def test_rows_moved_to_parquet_and_back_are_equal(pool: Pool, tmp_path: Path) -> None:
    chosen = list(range(0, len(pool), 10))
    there = reopened(pool.export(chosen, tmp_path / "moved.parquet"), pool)
    back = reopened(there.export(range(len(chosen)), tmp_path / "back.json"), pool)
    assert [back[place].row for place in range(len(chosen))] == [pool[index].row for index in chosen]
