"""Copies on this machine of files in a store. In: a place. Out: a file that can be memory-mapped.

Text is read row by row, from anywhere in it, by several processes: it is copied once, and so is a saved data set.
Copies lie in `vlmsift-<user>` in the folder for temporary files (TMPDIR names another), under a name that holds the
file's version, so a later start, or a neighbour, takes them as they are, and a changed file is copied anew. They are
never removed here: they are temporary files, which the system clears away.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vlmsift.errors import UsageError
from vlmsift.files import replacing
from vlmsift.places import Place, StorePath

_AT_ONCE = 8  # files
_BLOCK = 1 << 23  # bytes per request: 8 MiB
Copy = Callable[[StorePath, Path], None]


def local_files(paths: Sequence[Place], copy: Copy | None = None) -> tuple[Path, ...]:
    """For each file one on this machine; those of a disk are their own.

    Args:
        copy: makes a copy; by default of all bytes.

    Raises:
        UsageError: no room. StoreError: what the store says. FileNotFoundError: a file is gone.
    """
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return tuple(threads.map(lambda path: _local(path, copy or _copy_all), paths))


def local_folder(path: Place) -> Path:
    """A folder on this machine with the files that lie directly in `path`; `path` itself where it is on a disk."""
    if isinstance(path, Path):
        return path
    files = sorted(file for file in path.iterdir() if file.is_file())
    copies = local_files(files)
    folder = _home() / _digest(*(f"{file} {copy.name}" for file, copy in zip(files, copies, strict=True)))
    folder.mkdir(exist_ok=True)
    for file, copy in zip(files, copies, strict=True):
        if not (folder / file.name).exists():
            with replacing(folder / file.name, sync=False) as temporary:
                os.link(copy, temporary)
    return folder


def copied(path: StorePath, copy: Copy | None = None) -> Path | None:
    """The whole copy of a file that there is already, if any."""
    target = _target(path, copy or _copy_all)
    return target if target.exists() else None


def _local(path: Place, copy: Copy) -> Path:
    if isinstance(path, Path):
        return path
    target, size = _target(path, copy), path.stat().st_size
    if not target.exists():
        if copy is _copy_all and size > (free := shutil.disk_usage(target.parent).free):
            told = f"{path} ({size:,} bytes) is copied to {target.parent} before it is read, where {free:,} are free"
            raise UsageError(f"{told}. Name a folder with more room in TMPDIR, or store the rows as Parquet.")
        with replacing(target, sync=False) as temporary:
            copy(path, temporary)
    return target


def _target(path: StorePath, copy: Copy) -> Path:
    return _home() / f"{_digest(str(path), path.version(), copy.__name__)}{path.suffix}"


def _digest(*facts: str) -> str:
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]


def _copy_all(path: StorePath, out: Path) -> None:
    with path.open() as file, out.open("wb") as written:
        while block := file.read(_BLOCK):
            written.write(block)


def _home() -> Path:
    """The folder of all copies, which nobody else may write to. Raises UsageError where it is another user's."""
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    home = Path(tempfile.gettempdir()) / f"vlmsift-{user}"
    home.mkdir(mode=0o700, exist_ok=True)
    found = home.lstat()
    if os.name == "posix" and (found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022):
        raise UsageError(f"{home} can be written to by others; move it away, or name another folder in TMPDIR")
    return home
