"""Memory shared with workers: read in place, used again when dropped, never more than there is, nothing left behind."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from tests.scoring.large import feed, wait_for
from vlmsift.scoring import shared
from vlmsift.scoring.shared import PAGE, Room, make_rooms

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are not forked there")
SHM = Path("/dev/shm")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8, torch.int64, torch.bool])
def test_a_tensor_is_what_it_was(dtype: torch.dtype) -> None:
    room = Room(0, 4 * PAGE)
    value = (torch.randn(3, 5, 7) * 3).to(dtype)
    place = room.put(value.transpose(0, 2))
    assert place is not None
    there = room.get(place)
    assert there.dtype == dtype
    assert torch.equal(there, value.transpose(0, 2))


def filled(room: Room, *pages: int) -> list[torch.Tensor]:
    """A tensor of so many pages each, all that fit."""
    places = [room.put(torch.full((count * PAGE,), count, dtype=torch.uint8)) for count in pages]
    return [room.get(place) for place in places if place is not None]


def test_room_is_given_back_when_the_last_view_goes_and_never_taken_twice() -> None:
    room = Room(0, 8 * PAGE)
    held = filled(room, 3, 2, 3, 1)
    assert [len(one) // PAGE for one in held] == [3, 2, 3], "the fourth has no room"
    view = held[1][5:9]
    del held[1]
    gc.collect()
    assert room.put(torch.zeros(2 * PAGE, dtype=torch.uint8)) is None, "a view still holds it"
    assert view.tolist() == [2] * 4
    del view
    gc.collect()
    assert [len(one) // PAGE for one in filled(room, 3, 2)] == [2]
    assert [int(one.unique()) for one in held] == [3, 3], "what is held stays as it is"


def test_a_process_forked_later_frees_nothing() -> None:
    room = Room(0, 2 * PAGE)
    held = filled(room, 2)
    child = get_context("fork").Process(target=held.clear)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert room.taken.all()
    held.clear()
    assert not room.taken.any()


def test_no_memory_to_share_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(make_rooms(3)) == 3
    assert make_rooms(3, 3 * PAGE - 1) == []

    def refused(*how: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(shared.mmap, "mmap", refused)
    assert make_rooms(3) == []


def held_open(told: Connection) -> None:
    """Read five large items, tell what is seen of them, and stay."""
    for item in feed(workers=2, size=1 << 20):
        if item.index == 5:
            told.send((os.listdir(SHM), b"/dev/zero" in Path("/proc/self/maps").read_bytes()))
            time.sleep(60)


@pytest.mark.skipif(not SHM.is_dir(), reason="Linux alone tells what is shared")
@pytest.mark.parametrize("killed", ["main", "worker"])
def test_who_is_killed_leaves_nothing_behind(killed: str) -> None:
    before = set(os.listdir(SHM))
    fork = get_context("fork")
    ours, theirs = fork.Pipe()
    process = fork.Process(target=held_open, args=(theirs,))
    process.start()
    assert ours.poll(60)
    during, mapped = ours.recv()
    assert mapped, "tensors are shared"
    assert set(during) <= before, "by no name"
    workers = list(map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))
    assert len(workers) == 2
    os.kill(workers[0] if killed == "worker" else process.pid, signal.SIGKILL)
    process.join(60)
    assert process.exitcode not in (None, 0)
    assert wait_for(lambda: not any(Path(f"/proc/{one}").exists() for one in workers), 30), "who holds the memory ends"
    assert set(os.listdir(SHM)) <= before
