"""How long one sample may take to be read and encoded. In: nothing. Out: an error that becomes its row's reason."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vlmsift.errors import SampleError

LONGEST = 300.0  # seconds


class _TooLong(BaseException):
    """Passes through whoever catches every Exception and would call it the sample's fault."""


@contextmanager
def patience() -> Iterator[None]:
    """Raise SampleError in what takes longer than `LONGEST`: a file system that hangs must not hold a run up for ever.

    A signal interrupts what waits, also for a device; where there is none (another thread, Windows), there is no limit.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(*_: Any) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        yield
    except _TooLong:
        told = f"over {LONGEST:g} seconds to read and encode; look at its image files"
        raise SampleError("took too long", told) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
