"""Which data it is: all bytes of little, a sample of much, the same wherever it lies."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from vlmsift.places import StorePath
from vlmsift.pools import fingerprint as module
from vlmsift.pools.fingerprint import SAMPLED, fingerprint

BLOCK = 1 << 16
SIZES = (50 * BLOCK, 0, 30 * BLOCK + 17)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.bin" for number in range(len(SIZES))]
    for number, (path, size) in enumerate(zip(paths, SIZES, strict=True)):
        path.write_bytes(hashlib.shake_128(bytes([number])).digest(size))
    return paths


def test_below_the_bound_it_is_the_digest_of_sizes_and_bytes(files: list[Path]) -> None:
    expected = hashlib.sha256(b"".join(len(one.read_bytes()).to_bytes(8, "big") + one.read_bytes() for one in files))
    assert fingerprint(files) == expected.hexdigest()


def test_above_it_a_sample_is_read_and_said_to_be_one(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WHOLE", sum(SIZES) - 1)
    monkeypatch.setattr(module, "_BLOCKS", 8)
    first = fingerprint(files)
    assert first.startswith(SAMPLED)
    store = [StorePath(f"memory://{path.parent.name}/{path.name}") for path in files]
    for path, place in zip(files, store, strict=True):
        place.write_bytes(path.read_bytes())
    assert fingerprint(store) == first
    assert fingerprint(files[::-1]) != first
    found = 0
    for place in range(0, SIZES[0], BLOCK // 2):  # one byte in every half block, one after the other
        flip(files[0], place)
        found += fingerprint(files) != first
        flip(files[0], place)
    assert fingerprint(files) == first
    assert 8 < found < 30
    flip(files[2], SIZES[2] - 1)  # the end is always read
    assert fingerprint(files) != first
    flip(files[2], SIZES[2] - 1)
    files[1].write_bytes(b"x")  # and every size
    assert fingerprint(files) != first


def flip(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 255]))
