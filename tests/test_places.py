"""Paths and URLs as one kind of place: what is told apart, what a store is asked, and what it says against it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from vlmsift.errors import StoreError, UsageError
from vlmsift.places import StorePath, as_place


@pytest.fixture
def memory(tmp_path: Path) -> StorePath:
    """A folder of this test's own in a store in this process, with two files."""
    folder = StorePath(f"memory://{tmp_path.name}/data")
    (folder / "a.txt").write_bytes(b"hello")
    (folder / "sub" / "b.txt").write_bytes(b"world!")
    return folder


@pytest.mark.parametrize("word", ["s3://bucket/a/b.json", Path("s3://bucket/a/b.json"), "s3://bucket//a/./b.json/"])
def test_a_url_is_a_place_in_a_store_also_where_the_shell_made_a_path_of_it(word: str | Path) -> None:
    place = as_place(word)
    assert isinstance(place, StorePath)
    assert str(place) == "s3://bucket/a/b.json"
    assert (place.name, place.stem, place.suffix) == ("b.json", "b", ".json")
    assert [str(parent) for parent in place.parents] == ["s3://bucket/a", "s3://bucket"]
    assert str(place.bucket / "c d#?.txt") == "s3://bucket/c d#?.txt"
    assert pickle.loads(pickle.dumps(place)) == place  # noqa: S301 - our own


@pytest.mark.parametrize("word", ["data/pool.json", "/a/s3:/b", "s3:/bucket/a", "C:/data", Path("C:/data"), "./hf://"])
def test_a_path_stays_one(word: str | Path) -> None:
    assert as_place(word) == Path(word)


def test_home_and_file_urls_are_paths() -> None:
    assert as_place("~/pool.json") == Path.home() / "pool.json"
    assert as_place("file:///a%20b/c.json") == Path("/a b/c.json")


@pytest.mark.parametrize("url", ["s3://bucket/../other/a", "s3://bucket/a/..", "s3://"])
def test_a_url_that_climbs_or_names_nothing_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="names no place in a store"):
        as_place(url)


def test_a_password_in_a_url_is_refused() -> None:
    with pytest.raises(UsageError, match="password") as raised:
        as_place("s3://key:verysecret@bucket/pool.json").exists()
    assert "verysecret" not in str(raised.value)


def test_an_unknown_store_is_refused() -> None:
    with pytest.raises(UsageError, match="nosuchstore"):
        as_place("nosuchstore://a/b").exists()


def test_what_a_store_is_asked(memory: StorePath) -> None:
    a = memory / "a.txt"
    assert (a.exists(), a.is_file(), a.is_dir()) == (True, True, False)
    assert (memory.exists(), memory.is_file(), memory.is_dir()) == (True, False, True)
    assert not (memory / "none").exists()
    assert (a.stat().st_size, a.read_bytes()) == (5, b"hello")
    assert sorted(place.name for place in memory.iterdir()) == ["a.txt", "sub"]
    with a.open() as file:
        file.seek(1)
        assert file.read(3) == b"ell"
    before = a.version()
    a.write_bytes(b"hallo")
    assert (a.read_bytes(), a.version() == before) == (b"hallo", False)
    a.unlink()
    a.unlink()
    for ask in (a.read_bytes, a.open, a.stat):
        with pytest.raises(FileNotFoundError):
            ask()


def test_s3_answers_as_the_store_in_memory_does(s3_url: str) -> None:
    folder = StorePath(s3_url)
    data = folder / "data"
    (data / "a.txt").write_bytes(b"hello")
    (data / "sub" / "b.txt").write_bytes(b"world!")
    test_what_a_store_is_asked(data)


def test_a_store_that_refuses_is_told_with_the_cure(s3_url: str, s3_variables: dict[str, str]) -> None:
    (StorePath(s3_url) / "a.txt").write_bytes(b"1")
    reset = f"{s3_variables['AWS_ENDPOINT_URL']}/moto-api/reset-auth"
    plain = {"Content-Type": "text/plain"}
    urlopen(Request(reset, b"0", plain))  # from now on keys are looked at, and these are nobody's
    try:
        for ask in ((StorePath(s3_url) / "a.txt").read_bytes, StorePath(s3_url).exists):
            with pytest.raises(StoreError, match="AWS_ACCESS_KEY_ID") as raised:
                ask()
            assert raised.value.kind == "access denied"
        with pytest.raises(StoreError, match="access denied"):
            (StorePath(s3_url) / "b.txt").write_bytes(b"1")
    finally:
        urlopen(Request(reset, b"inf", plain))


def test_a_forked_process_connects_anew(memory: StorePath, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = memory.arrow[0]
    assert memory.arrow[0] is ours
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert memory.arrow[0] is not ours


def test_a_hub_that_cannot_be_asked_is_told_at_once_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests are offline, and the hub's own client says so."""
    monkeypatch.setattr("vlmsift.folders.PAUSE", None)  # asked again, it would fail here
    with pytest.raises(StoreError, match="offline mode") as raised:
        as_place("hf://datasets/somebody/something/train.parquet").exists()
    assert raised.value.kind == "store unreachable"


def test_a_store_that_fails_is_asked_again(memory: StorePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlmsift.folders.PAUSE", 0)
    answers = [OSError("503 slow down"), TimeoutError("no answer")]
    own = MemoryFileSystem.open

    def moody(self: MemoryFileSystem, *args: Any, **kwargs: Any) -> Any:
        if answers:
            raise answers.pop()
        return own(self, *args, **kwargs)

    monkeypatch.setattr(MemoryFileSystem, "open", moody)
    assert (memory / "a.txt").read_bytes() == b"hello"
    answers += [OSError("503 slow down")] * 9
    with pytest.raises(StoreError, match="503 slow down") as raised:
        (memory / "a.txt").read_bytes()
    assert (raised.value.kind, len(answers)) == ("store unreachable", 4)
