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
from vlmsift.files import check_output, remove_leftovers, replacing
from vlmsift.pools.known import FORMATS
from vlmsift.pools.rows import CONTAINERS, SUFFIXES, TEXT, Rows, numbers, open_rows
from vlmsift.pools.writing import ImageFolder, write_text
from vlmsift.types import Sample

if TYPE_CHECKING:
    from vlmsift.pools.pool import Pool

# what a saved data set consists of; caches are what `datasets` puts beside it
_SAVED = re.compile(r"state\.json|dataset_info\.json|data-\d+-of-\d+\.arrow|cache-\w+\.arrow")


def export_rows(
    pool: Pool, rows: Rows, chosen: NDArray[np.int64], out: str | Path, format: str | None, container: str | None
) -> Path:
    """Write the rows `chosen` (existing row numbers, in this order); see `Pool.export`, also for what it raises."""
    target, container, format = checked_target(pool, out, format, container)
    if not len(chosen):
        raise UsageError(f"nothing to write to {out}: no row was chosen")
    values = _Values(pool, rows, chosen, format)
    with replacing(target, _is_saved) as temporary:
        if format == pool.format and (container in TEXT) == (pool.container in TEXT):
            rows.copy(chosen, temporary, container)
        elif container in TEXT:
            images = ImageFolder(target)
            write_text(map(images.unpack, values), temporary, container)
            images.sync()
        else:
            from vlmsift.pools.arrow_writing import write_rows

            values.decide_storage()
            write_rows(values, temporary, container)
    remove_leftovers(target.parent, target.name)
    return target


def checked_target(
    pool: Pool, out: str | Path, format: str | None = None, container: str | None = None
) -> tuple[Path, str, str]:
    """Where an export goes, its container and its format, by the rules of `Pool.export`; nothing is touched.

    Raises UsageError for an unknown format or container, or an `out` that would destroy something.
    """
    container, format = container or _container_of(out) or pool.container, format or pool.format
    for what, value, known in (("format", format, FORMATS), ("container", container, CONTAINERS)):
        if value not in known:
            raise UsageError(f"no {what} {value!r}; known are {', '.join(known)}")
    target = Path(out)
    if pool.path.resolve() in (target.resolve(), *target.resolve().parents):
        raise UsageError(f"{out} is the pool or lies in it: rows would be lost or doubled. Choose another name.")
    as_folder = container == "dataset"
    check_output(target, folder=as_folder, ours=_is_saved if as_folder else lambda name: False)
    if target.is_dir() and (not as_folder or (any(target.iterdir()) and not (target / "state.json").exists())):
        raise UsageError(f"{out} is a folder that holds no saved data set. Choose another name.")
    if target.is_file() and target.stat().st_size:
        try:
            open_rows(target)
        except FormatError as error:
            raise UsageError(f"{out} is there, and no export wrote it. Choose another name. ({error})") from error
    return target, container, format


def _is_saved(name: str) -> bool:
    return _SAVED.fullmatch(name) is not None


def _container_of(out: str | Path) -> str | None:
    """What the name of an output says about its container; a suffix of another kind says nothing."""
    if str(out).endswith("/") or Path(out).is_dir() or not Path(out).suffix:
        return "dataset"
    return SUFFIXES.get(Path(out).suffix.lower())


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
