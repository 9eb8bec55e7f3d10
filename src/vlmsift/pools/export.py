"""Writes chosen rows of a pool. In: row numbers and a target. Out: a file or folder that appears whole or not at all.

Three ways, told in `Pool.export`: rows *copied* within a family of containers, *moved* between the families as Python
values, or *converted* to another format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vlmsift.errors import FormatError, SampleError, UsageError
from vlmsift.files import check_output
from vlmsift.places import Place, as_place, writing
from vlmsift.pools.images import image_bytes
from vlmsift.pools.known import FORMATS
from vlmsift.pools.rows import FAMILIES, SUFFIXES, Rows, numbers, open_rows
from vlmsift.pools.writing import ImageFolder, write_text
from vlmsift.types import ImageRef, Sample

if TYPE_CHECKING:
    from vlmsift.pools.pool import Pool

# what a saved data set consists of; caches are what `datasets` puts beside it
_LAST = "state.json"  # without it there is no data set
_SAVED = re.compile(r"state\.json|dataset_info\.json|data-\d+-of-\d+\.arrow|cache-\w+\.arrow")


def export_rows(
    pool: Pool, rows: Rows, chosen: NDArray[np.int64], out: str | Place, format: str | None, container: str | None
) -> Place:
    """Write the rows `chosen` (existing row numbers, in this order); see `Pool.export`, also for what it raises."""
    target, container, format = checked_target(pool, out, format, container)
    if not len(chosen):
        raise UsageError(f"nothing to write to {out}: no row was chosen")
    values = _Values(pool, rows, chosen, format)
    with writing(target, _is_saved, last=_LAST) as temporary:
        if format == pool.format and FAMILIES[container] == FAMILIES[pool.container]:
            rows.copy(chosen, temporary, container)
        elif container == "tar":
            from vlmsift.pools.tar_writing import write_tar

            write_tar(values.with_images(), temporary, FORMATS[format])
        elif FAMILIES[container] == "text":
            images = ImageFolder(target)
            write_text(map(images.unpack, values), temporary, container)
            images.sync()
        else:
            from vlmsift.pools.arrow_writing import write_rows

            values.decide_storage()
            write_rows(values, temporary, container)
    return target


def checked_target(
    pool: Pool, out: str | Place, format: str | None = None, container: str | None = None
) -> tuple[Place, str, str]:
    """Where an export goes, its container and its format, by the rules of `Pool.export`; nothing is touched.

    Raises UsageError for an unknown format or container, or an `out` that would destroy something.
    """
    target = as_place(out)
    container, format = container or _container_of(out, target) or pool.container, format or pool.format
    for what, value, known in (("format", format, FORMATS), ("container", container, FAMILIES)):
        if value not in known:
            raise UsageError(f"no {what} {value!r}; known are {', '.join(known)}")
    if pool.path.resolve() in (target.resolve(), *target.resolve().parents):
        raise UsageError(f"{out} is the pool or lies in it: rows would be lost or doubled. Choose another name.")
    as_folder = container == "dataset"
    if isinstance(target, Path):
        check_output(target, folder=as_folder, ours=_is_saved if as_folder else lambda name: False)
    elif as_folder and target.is_dir() and (others := [name for name in _names(target) if not _is_saved(name)]):
        raise UsageError(f"{target} is a folder that holds other things ({min(others)!r}). Name a new or empty one.")
    if target.is_dir() and (not as_folder or (any(target.iterdir()) and not (target / "state.json").exists())):
        raise UsageError(f"{out} is a folder that holds no saved data set. Choose another name.")
    if target.is_file() and target.stat().st_size:
        try:
            open_rows(target)
        except FormatError as error:
            raise UsageError(f"{out} is there, and no export wrote it. Choose another name. ({error})") from error
    return target, container, format


def _names(folder: Place) -> list[str]:
    return [file.name for file in folder.iterdir()]


def _is_saved(name: str) -> bool:
    return _SAVED.fullmatch(name) is not None


def _container_of(out: str | Place, target: Place) -> str | None:
    """What the name of an output says about its container; a suffix of another kind says nothing."""
    if str(out).endswith("/") or target.is_dir() or not target.suffix:
        return "dataset"
    return SUFFIXES.get(target.suffix.lower())


class _Values:
    """The chosen rows as Python values, as often as they are gone through: untouched, or written anew in a format."""

    def __init__(self, pool: Pool, rows: Rows, chosen: NDArray[np.int64], format: str) -> None:
        self._pool, self._rows, self._chosen, self._format = pool, rows, chosen, format
        self._untouched, self._in_bytes = format == pool.format, False

    def decide_storage(self) -> None:
        """Arrow has one type per field: if any image to be converted lies in its row, store all as {bytes, path}."""
        if not self._untouched:
            samples = (self._read(self._pool, index) for index in numbers(self._chosen))
            self._in_bytes = any(isinstance(image, bytes) for sample in samples for image in sample.images)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for index in numbers(self._chosen):
            if self._untouched:
                yield self._read(self._rows, index)
            else:
                yield self._converted(self._read(self._pool, index))

    def with_images(self) -> Iterator[tuple[dict[str, Any], tuple[ImageRef, ...], list[bytes]]]:
        """Each row with its images: as it names them, and encoded."""
        for index, value in zip(self._chosen, self, strict=True):
            refs = self._read(self._pool, index).images
            try:
                yield value, refs, [image_bytes(ref, self._pool.image_root) for ref in refs]
            except SampleError as error:
                cure = "Leave it out, or export as .jsonl, where images stay where they are."
                raise FormatError(
                    f"row {index} (id {self._pool.ids[index]!r}) cannot be packed: {error}. {cure}"
                ) from error

    def _read(self, source: Rows | Pool, index: int) -> Any:
        try:
            return source[index]
        except SampleError as error:
            cure = f"Leave it out, or export in the pool's own form ({self._pool.format}, {self._pool.container})."
            name = f"row {index} (id {self._pool.ids[index]!r})"
            raise FormatError(f"{name} cannot be converted: {error}. {cure}") from error

    def _converted(self, sample: Sample) -> dict[str, Any]:
        images = [_stored(image) if self._in_bytes else image for image in sample.images]
        own_fields = FORMATS[self._pool.format].FIELDS
        kept = {name: value for name, value in sample.row.items() if name not in own_fields}
        return {**kept, "id": sample.id, **FORMATS[self._format].write(sample.turns, images)}


def _stored(image: str | bytes) -> dict[str, Any]:
    """An image as the `datasets` library stores one."""
    return {"bytes": image, "path": None} if isinstance(image, bytes) else {"bytes": None, "path": image}
