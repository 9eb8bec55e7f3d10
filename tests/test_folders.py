"""The five verbs mean the same on a disk and in a store; a store that fails or stalls is asked again, and told of."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow.fs import FSSpecHandler, LocalFileSystem, PyFileSystem

from vlmsift import folders
from vlmsift.errors import MissingExtra, UsageError
from vlmsift.files import replacing
from vlmsift.folders import Folder, LocalFolder, StoredFolder, open_folder


@pytest.fixture(params=["disk", "another disk", "fsspec", "s3"])
def folder(request: Any, tmp_path: Path) -> Folder:
    if request.param == "disk":
        return open_folder(tmp_path / "run")
    if request.param == "another disk":
        return StoredFolder(LocalFileSystem(), str(tmp_path / "run"), "disk://run")
    return open_folder(
        f"{request.getfixturevalue('s3_url')}/a run 100%" if request.param == "s3" else f"memory://{tmp_path}"
    )


def test_the_five_verbs(folder: Folder) -> None:
    assert folder.list() == []
    folder.put("signals/part-1", b"1")
    assert folder.put_new("signals/part-2", b"2")
    assert not folder.put_new("signals/part-2", b"other")
    folder.put("signals/part-1", memoryview(b"one"))
    folder.put("run.json", b"{}")
    folder.put("signals/.part-3.host-0.12.0123abcd.tmp", b"not whole yet")
    assert folder.list("signals/") == ["signals/part-1", "signals/part-2"]
    assert folder.list() == ["run.json", "signals/part-1", "signals/part-2"]
    assert folder.list("signals/part-2") == folder.list("signals/part-2") == ["signals/part-2"]
    assert [folder.read(f"signals/part-{part}") for part in (1, 2)] == [b"one", b"2"]
    assert folder.inside("signals").list() == ["part-1", "part-2"]
    assert folder.inside("signals").place == f"{folder.place}/signals"
    assert folder.arrow.open_input_stream("signals/part-2").read() == b"2"
    assert [folder.has(name) for name in ("run.json", "signals", "signals/part-3")] == [True, False, False]
    for _ in range(2):
        folder.remove("run.json")
    with pytest.raises(FileNotFoundError):
        folder.read("run.json")
    assert folder.list() == ["signals/part-1", "signals/part-2"]


def test_what_is_being_written_to_a_disk_is_not_listed(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    with replacing(tmp_path / "signals" / "part-3") as temporary:
        temporary.touch()
        assert folder.list() == folder.list("signals/") == []
    assert folder.list() == ["signals/part-3"]
    assert not list(tmp_path.rglob("*.tmp"))


def claim(folder: Path, number: int, start: Any, won: Any) -> None:
    start.wait()
    for name in range(100):
        if LocalFolder(folder).put_new(str(name), b"%d" % number * 1000):
            won.put((name, number))
    won.put(None)


@pytest.mark.parametrize("links", [True, False])
def test_of_many_that_put_a_new_file_one_is_told_so(links: bool, tmp_path: Path, monkeypatch: Any) -> None:
    if not links:  # as on some network file systems

        def refuse(*arguments: Any) -> None:
            raise PermissionError("no links here")

        monkeypatch.setattr(os, "link", refuse)
        assert LocalFolder(tmp_path).put_new("a", b"1")
        assert not LocalFolder(tmp_path).put_new("a", b"2")
        assert (LocalFolder(tmp_path).read("a"), LocalFolder(tmp_path).list()) == (b"1", ["a"])
        return
    fork = multiprocessing.get_context("spawn")
    start, won = fork.Barrier(2), fork.Queue()
    claiming = [fork.Process(target=claim, args=(tmp_path, number, start, won)) for number in range(2)]
    for one in claiming:
        one.start()
    told = dict(answer for ending in range(2) for answer in iter(won.get, None))
    for one in claiming:
        one.join()
    assert {int(name): LocalFolder(tmp_path).read(name) for name in LocalFolder(tmp_path).list()} == {
        name: b"%d" % number * 1000 for name, number in told.items()
    }
    assert len(told) == 100


class Faulty(MemoryFileSystem):  # type: ignore[misc]
    """A store of objects in memory that fails: each verb `times` before it works, by `fault`."""

    cachable = False
    fault: Callable[[], None]
    times: dict[str, int]

    def _fail(self, verb: str) -> None:
        if self.times[verb]:
            self.times[verb] -= 1
            self.fault()

    def find(self, path: str, **how: Any) -> Any:
        self._fail("list")
        return super().find(path, **how)

    def _open(self, path: str, mode: str = "rb", **how: Any) -> Any:
        self._fail("read" if "r" in mode else "write")
        return super()._open(path, mode, **how)

    def rm(self, path: str, **how: Any) -> None:
        self._fail("delete")
        super().rm(path, **how)


def busy() -> None:
    raise OSError("AWS Error SLOW_DOWN (HTTP status 503) during PutObject operation: Please reduce your request rate.")


def stored(fault: Callable[[], None], times: int) -> StoredFolder:
    store = Faulty()
    store.fault, store.times = fault, dict.fromkeys(("list", "read", "write", "delete"), times)
    return StoredFolder(PyFileSystem(FSSpecHandler(store)), f"/{secrets.token_hex(4)}", "fake://run")


@pytest.mark.parametrize("fault", ["busy", "stalled"])
def test_a_store_that_fails_or_stalls_is_asked_again(fault: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(folders, "PAUSE", 0.001)
    monkeypatch.setattr(folders, "PATIENCE", 5 if fault == "busy" else 0.1)
    folder = stored(busy if fault == "busy" else threading.Event().wait, 2)  # type: ignore[arg-type]
    folder.put("a", b"whole")
    assert folder.read("a") == b"whole"
    assert folder.list() == ["a"]
    folder.remove("a")
    assert folder.list() == []


@pytest.mark.parametrize("fault", ["busy", "stalled"])
def test_a_store_that_goes_on_failing_is_told_of_and_holds_nothing_half(fault: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(folders, "PAUSE", 0.001)
    monkeypatch.setattr(folders, "PATIENCE", 5 if fault == "busy" else 0.02)
    folder = stored(busy if fault == "busy" else threading.Event().wait, 99)  # type: ignore[arg-type]
    told = "reduce your request rate" if fault == "busy" else "no answer within 0.02 seconds"
    with pytest.raises(OSError, match=rf"^store unreachable: fake://run/a: the store fails \(.*{told}"):
        folder.put("a", b"whole")
    folder.filesystem.handler.fs.times["list"] = 0
    assert folder.list() == []


def test_what_cannot_mend_itself_is_not_tried_again(monkeypatch: Any) -> None:
    def denied() -> None:
        raise OSError("AWS Error ACCESS_DENIED during PutObject operation")

    folder = stored(denied, 1)
    with pytest.raises(OSError, match="ACCESS_DENIED"):
        folder.put("a", b"1")


def test_of_two_in_a_store_without_conditions_the_one_that_finds_another_file_is_told_no(monkeypatch: Any) -> None:
    folder = stored(busy, 0)
    monkeypatch.setattr(StoredFolder, "_fsspec", None)
    monkeypatch.setattr(StoredFolder, "_protocols", {"memory"})
    write = StoredFolder._write

    def overtaken(self: StoredFolder, path: str, content: bytes) -> None:
        write(self, path, content)
        write(self, path, b"another's")

    monkeypatch.setattr(StoredFolder, "_write", overtaken)
    assert not folder.put_new("run.json", b"ours")
    assert folder.read("run.json") == b"another's"


@pytest.mark.parametrize(
    ("url", "kind", "told"),
    [
        ("sftp://me:secret@host/run", UsageError, r"sftp://\.\.\.@host/run holds a password\. Put them"),
        ("nowhere://run", UsageError, "nowhere://run cannot be opened .*Name a path, or a URL that fsspec knows"),
        ("oss://bucket/run", MissingExtra, "oss://bucket/run needs a package that is not installed: .*ossfs"),
        ("s3://", UsageError, "s3:// names no bucket"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url: str, kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=told):
        open_folder(url)


def test_a_path_stays_a_path(tmp_path: Path) -> None:
    for place in (tmp_path, str(tmp_path), f"file://{tmp_path}"):
        folder = open_folder(place)
        assert isinstance(folder, LocalFolder)
        assert folder.path == tmp_path
    assert [folders.is_url(place) for place in ("a:b", "C:\\a", "s3://a", Path("s3://a"))] == [
        False,
        False,
        True,
        False,
    ]
