"""Files that appear whole or not at all, whoever else writes or dies beside; what nobody may write to; JSON."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vlmsift import files
from vlmsift.errors import RunMismatch, UsageError
from vlmsift.files import add_file, check_output, compare, read_json, remove_leftovers, replacing, write_json
from vlmsift.folders import LocalFolder

posix = pytest.mark.skipif(os.name != "posix", reason="needs pipes, signals and process numbers as POSIX has them")


def fail(out: Path, begin: Callable[[Path], object]) -> None:
    """Begin to write `out`, then fail."""
    with replacing(out) as temporary:
        begin(temporary)
        raise KeyError


def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_file_appears_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.txt"
    with replacing(out) as temporary:
        temporary.write_text("x")
        assert temporary.parent == out.parent
        assert not out.exists()
    assert out.read_text() == "x"
    assert list(out.parent.iterdir()) == [out]


def test_an_error_leaves_the_old_file_and_who_reads_it_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    out.write_text("old")
    with pytest.raises(KeyError):
        fail(out, lambda temporary: temporary.write_text("half"))
    assert list(tmp_path.iterdir()) == [out]
    with out.open() as reader:
        files.write_text(out, "new")
        assert (reader.read(), out.read_text()) == ("old", "new")


def test_a_folder_is_replaced_and_an_error_leaves_the_old_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for content in ("first", "second"):
        with replacing(out, {"first"}.__contains__) as temporary:
            temporary.mkdir()
            (temporary / content).touch()
    with pytest.raises(UsageError, match=r"holds other things \('second'\)"):
        fail(out, Path.mkdir)
    assert [part.name for part in tmp_path.iterdir()] == ["out"]
    assert [part.name for part in out.iterdir()] == ["second"]


def test_what_came_into_a_folder_meanwhile_is_not_lost(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()

    def write() -> None:
        with replacing(out) as temporary:
            temporary.mkdir()
            (out / "precious.txt").touch()

    with pytest.raises(UsageError, match=r"holds other things \('precious.txt'\)"):
        write()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "precious.txt"]


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "out.txt")
    files.write_text(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "out.txt").read_text() == "x"


def test_two_never_share_a_temporary_name(tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    with replacing(out) as first, replacing(out) as second:
        first.write_text("first")
        second.write_text("second")
        assert first != second
    assert out.read_text() == "first", "the last one that ends"
    assert list(tmp_path.iterdir()) == [out]


@posix
def test_only_what_the_dead_of_this_machine_left_is_removed(tmp_path: Path) -> None:
    here, dead = files._machine(), gone()
    theirs = [
        f".out.json.{here}.{os.getppid()}.0123abcd.tmp",  # alive
        f".out.json.{here}.{os.getpid()}.0123abcd.tmp",  # this one: another thread's
        f".out.json.another-host-0.{dead}.0123abcd.tmp",
        f".out.json.{here}0.{dead}.0123abcd.tmp",  # the same host, another container
        f".other.json.{here}.{dead}.0123abcd.tmp",
        f".out.json.{dead}.tmp",
        "notes.tmp",
    ]
    for name in theirs:
        (tmp_path / name).touch()
    (tmp_path / f".out.json.{here}.{dead}.0123abcd.tmp").touch()
    (tmp_path / f".out.json.{here}.{dead}.456789ef.tmp").mkdir()
    remove_leftovers(tmp_path, "out.json")
    assert {path.name for path in tmp_path.iterdir()} == set(theirs)
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(theirs) - {theirs[4]}
    remove_leftovers(tmp_path / "nowhere")


@pytest.fixture(params=["pipe", "socket"])
def special(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The path of something that is neither file nor folder."""
    monkeypatch.chdir(tmp_path)  # a socket's name must be short
    if request.param == "pipe":
        os.mkfifo("special")
    with socket.socket(socket.AF_UNIX) as server:
        if request.param == "socket":
            server.bind("special")
        yield tmp_path / "special"


@posix
def test_a_device_is_refused() -> None:
    with pytest.raises(UsageError, match=r"/dev/null is a device, a pipe or a socket"):
        check_output(Path(os.devnull))


WRITERS: dict[str, Callable[[Any, Path], Any]] = {
    "put": lambda vlmsift, out: LocalFolder(out.parent).put(out.name, b""),
    "add": lambda vlmsift, out: add_file(out, b""),
    "export": lambda vlmsift, out: vlmsift.open_pool("pool.jsonl").export([0], out, container="json"),
    "data set": lambda vlmsift, out: vlmsift.open_pool("pool.jsonl").export([0], out),
    "score": lambda vlmsift, out: vlmsift.score("pool.jsonl", "model", out),
    "train": lambda vlmsift, out: vlmsift.train.train("pool.jsonl", "model", out),
    "rankings": lambda vlmsift, out: vlmsift.augment.rankings.Rankings().save(out),
    "configs": lambda vlmsift, out: vlmsift.train.configs.write_configs("pool.jsonl", "model", out),
}


@posix
@pytest.mark.parametrize("writer", WRITERS)
def test_no_writer_writes_to_it(writer: str, special: Path) -> None:
    import vlmsift.augment.rankings
    import vlmsift.train.configs

    Path("pool.jsonl").write_text('{"conversations": [{"from": "gpt", "value": "a"}]}\n')
    before = special.stat()
    with pytest.raises(UsageError, match="is a device, a pipe or a socket, and nothing is written to one"):
        WRITERS[writer](vlmsift, special)
    assert special.stat() == before
    assert sorted(os.listdir()) == ["pool.jsonl", "special"]


def test_a_file_is_no_folder_and_nothing_lies_in_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_output(tmp_path / "file")
    check_output(tmp_path / "new", folder=True)
    with pytest.raises(UsageError, match="file is a file, and a folder is to be written"):
        check_output(tmp_path / "file", folder=True)
    with pytest.raises(UsageError, match=r"file/a/b cannot be: .*file is a file"):
        check_output(tmp_path / "file" / "a" / "b")


def test_json_comes_back_as_plain_values(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    value = {"a": (1, [float("nan")]), 2: {"ü": float("inf")}, "x": 0.1}
    write_json(path, value)
    assert read_json(path) == files.plain(value) == {"a": [1, [None]], "2": {"ü": None}, "x": 0.1}
    assert "ü" in path.read_text("utf-8")
    path.write_bytes(b'{"a": \xff}')
    with pytest.raises(UsageError, match=r"a\.json cannot be read as JSON"):
        read_json(path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json")


def test_identities_are_compared_as_they_come_back(tmp_path: Path) -> None:
    compare(tmp_path, {"a": {"b": [1, 2]}, "c": None}, {"a": {"b": (1, 2)}, "d": None})
    with pytest.raises(RunMismatch) as caught:
        compare(tmp_path, {"a": {"b": 1, "c": 2}}, {"a": {"b": "1", "c": 2}, "e": 3}, "training", "Do this.")
    assert str(caught.value).splitlines() == [
        f"{tmp_path} holds a training with other settings:",
        '  a.b: in the training 1, asked for "1"',
        "  e: in the training nothing, asked for 3",
        "Do this.",
    ]
