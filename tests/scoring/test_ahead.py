"""The thread is one value ahead and no more; what it meets is met by the reader."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.scoring.large import wait_for
from vlmsift.scoring.ahead import ahead


def test_the_values_come_in_order_made_elsewhere() -> None:
    values = list(ahead(iter([(place, threading.get_ident()) for place in range(30)])))
    assert [place for place, _ in values] == list(range(30))
    makers = set(ahead(threading.get_ident() for _ in range(3)))
    assert len(makers) == 1
    assert threading.get_ident() not in makers


def test_one_value_ahead_and_no_more() -> None:
    made: list[int] = []

    def make() -> Iterator[int]:
        for place in range(9):
            made.append(place)
            yield place

    values = ahead(make())
    assert not made
    for place in range(4):
        assert next(values) == place
        assert wait_for(lambda place=place: len(made) == place + 2)
        time.sleep(0.02)
        assert made == list(range(place + 2))


def test_what_the_iterator_raises_is_raised_after_what_it_gave() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("two")

    values = ahead(broken())
    assert next(values) == 1
    with pytest.raises(KeyError, match="two"):
        next(values)
    assert list(values) == []


def test_the_thread_ends_with_its_reader() -> None:
    before = threading.active_count()
    endless = ahead(iter(int, 1))
    assert next(endless) == 0
    assert threading.active_count() == before + 1
    endless.close()  # type: ignore[attr-defined]
    assert wait_for(lambda: threading.active_count() == before)
