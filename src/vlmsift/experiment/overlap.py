"""Pictures that two sets of samples share, by the hash of their encoded bytes. In: open pools. Out: names, or digests.

A model that was trained on a picture is not tested on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from vlmsift.errors import SampleError, UsageError
from vlmsift.places import Place
from vlmsift.pools import Pool, image_bytes
from vlmsift.types import ImageRef

SHOWN = 5  # pictures that the error names


def refuse_shared_images(pool: Pool, test: Pool) -> None:
    """Raises UsageError, naming some, where images of the test set are in the pool as well.

    Bytes are read only where a pool's and a test's image have the same size.
    """
    sizes: dict[int, dict[ImageRef, str]] = {}  # bytes -> image -> one of its samples, of the test set
    for ref, sample, size in _images(test, range(len(test))):
        sizes.setdefault(size, {}).setdefault(ref, sample)
    alike: dict[int, dict[ImageRef, str]] = {}  # the same of the pool, where a size is in both
    for ref, sample, size in _images(pool, range(len(pool))):
        if size in sizes:
            alike.setdefault(size, {}).setdefault(ref, sample)
    shared = []
    for size, ours in alike.items():
        digests = {_digest(ref, pool.image_root): _shown(ref, sample) for ref, sample in ours.items()}
        for ref, sample in sizes[size].items():
            if (digest := _digest(ref, test.image_root)) in digests:
                shared.append(f"{_shown(ref, sample)} (in the pool {digests[digest]})")
    if shared:
        more = f" and {len(shared) - SHOWN} more" if len(shared) > SHOWN else ""
        raise UsageError(
            f"{len(shared)} images of the test set {test.path} are in the pool {pool.path} as well: "
            f"{', '.join(sorted(shared)[:SHOWN])}{more}. Take their samples out of one of the two"
        )


def image_digests(pool: Any, rows: Iterable[int]) -> set[bytes]:
    """sha256 of the encoded images of some rows; what cannot be read has none."""
    return {_digest(ref, pool.image_root) for ref, _, _ in _images(pool, rows)}


def _images(pool: Any, rows: Iterable[int]) -> Iterator[tuple[Any, str, int]]:
    """Image, its sample's id, its size in bytes; what cannot be read is left to the training to tell."""
    for row in rows:
        with suppress(SampleError):
            sample = pool[row]
            for ref in sample.images:
                with suppress(OSError, ValueError):
                    yield ref, sample.id, len(ref) if isinstance(ref, bytes) else (pool.image_root / ref).stat().st_size


def _digest(ref: ImageRef, root: Place) -> bytes:
    return hashlib.sha256(image_bytes(ref, root)).digest()  # encoded bytes


def _shown(ref: ImageRef, sample: str) -> str:
    return f"the image of {sample!r}" if isinstance(ref, bytes) else repr(ref)
