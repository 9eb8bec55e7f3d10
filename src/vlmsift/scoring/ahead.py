"""An iterator that works in a thread, one value ahead of its reader. In: an iterator. Out: the same values in order."""

from __future__ import annotations

from collections.abc import Iterator
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

T = TypeVar("T")
_END = object()


def ahead(values: Iterator[T]) -> Iterator[T]:
    """The values; the next one is made while the reader is at work. What the iterator raises is raised here.

    The thread begins with the first value that is asked for, and ends with the reader.
    """
    asked: SimpleQueue[bool] = SimpleQueue()
    made: SimpleQueue[tuple[object, BaseException | None]] = SimpleQueue()

    def work() -> None:
        while asked.get():
            try:
                made.put((next(values, _END), None))
            except BaseException as error:
                made.put((_END, error))

    Thread(target=work, daemon=True).start()  # a daemon: whoever interrupts the reader need not wait for it
    asked.put(True)
    try:
        while True:
            value, error = made.get()
            if error is not None:
                raise error
            if value is _END:
                return
            asked.put(True)
            yield value  # type: ignore[misc]
            del value  # the thread's next one is large too
    finally:
        asked.put(False)
