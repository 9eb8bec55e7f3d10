"""The test set: right answers, digits that no pool shows, the same bytes each time."""

from vlmsift.demo.digits import split
from vlmsift.demo.held_out import write_held_out
from vlmsift.demo.pool import make_pool
from vlmsift.demo.questions import draw_samples
from vlmsift.pools import open_pool


def test_it_reads_as_a_pool_with_the_drawn_answers(tmp_path):
    pool = open_pool(write_held_out(tmp_path / "a", 30))
    drawn = draw_samples("test", 30, 5)
    assert [pool[index].answer for index in range(30)] == [sample.answer for sample in drawn]
    assert [pool.source(index) for index in range(30)] == [sample.source for sample in drawn]
    assert (pool.image_root / pool[3].images[0]).read_bytes() == drawn[3].images[0]


def test_the_same_again_and_nothing_of_the_pool(tmp_path):
    first, second = (write_held_out(tmp_path / name, 30) for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert write_held_out(tmp_path / "c", 30, seed=6).read_bytes() != first.read_bytes()
    make_pool(tmp_path / "pool", 200)
    pictures = {path.read_bytes() for path in (tmp_path / "pool" / "images").iterdir()}
    assert not any(path.read_bytes() in pictures for path in (tmp_path / "a" / "images").iterdir())
    assert not set(split("test")) & set(split("pool"))
