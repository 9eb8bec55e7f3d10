"""What was worked out of a large pool's files, kept for the next who opens them. In: files. Out: a mapped table.

To know where five million rows lie and what their ids are, a whole file is gone through, for seconds and gigabytes, and
every worker needs the same. So it is kept in a cache, and whoever comes next maps it and touches only the pages of his
own rows. A file that was changed since has another key, by its size, its number on the disk and its times, of which one
(ctime) nobody can set; in a store by its version. The cache may be deleted at any time; `VLMSIFT_CACHE` names another
folder, and nothing is kept where that is empty.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from vlmsift.errors import UsageError
from vlmsift.files import replacing
from vlmsift.places import Place

LARGE = 200_000  # rows from which on it pays
VERSION = 1  # of what is worked out, and how
_TICK = 2_000_000_000  # nanoseconds; the coarsest clock of a file system (FAT)


def remembered(what: str, files: Sequence[Place], rows: int, make: Callable[[], pa.Table]) -> pa.Table:
    """`make()`, or what it gave when these files were last asked for it. `rows` of the pool decide whether it is kept.

    `what` names it, with all that it depends on beside the files' bytes. Files that changed within the last two seconds
    may change again unseen, and are worked out anew.
    """
    folder = _folder()
    if folder is None or rows < LARGE:
        return make()
    facts = [_state(path) for path in files]
    if any(fact is None for fact in facts):
        return make()
    key = hashlib.sha256(json.dumps([VERSION, what, facts]).encode()).hexdigest()
    path = folder / f"{key[:40]}.arrow"
    if (found := _mapped(path, key)) is not None:
        return found
    made = make()
    with suppress(OSError, UsageError):  # a cache that cannot be written to is none
        _keep(made, path, key)
        return _mapped(path, key) or made
    return made


def _state(path: Place) -> list[Any] | None:
    """What changes when a file does; None where it may have changed since unseen."""
    if not isinstance(path, Path):
        return [str(path), path.version()]
    state = path.stat()
    if max(state.st_mtime_ns, state.st_ctime_ns) > time.time_ns() - _TICK:
        return None
    return [str(path.resolve()), state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]


def _folder() -> Path | None:
    named = os.environ.get("VLMSIFT_CACHE")
    if named is not None:
        return Path(named).expanduser() if named else None
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    with suppress(RuntimeError):  # nobody's home
        return Path(base).expanduser() / "vlmsift" / "pools"
    return None


def _mapped(path: Path, key: str) -> Any:
    """The table in a file of the cache, none of it in memory yet; None where there is none, or it is not whole."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowException):
        return None
    return table if (table.schema.metadata or {}).get(b"vlmsift.key") == key.encode() else None


def _keep(table: pa.Table, path: Path, key: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    marked = table.replace_schema_metadata({b"vlmsift.key": key.encode()}).combine_chunks()
    with replacing(path) as temporary, pa.ipc.new_file(str(temporary), marked.schema) as writer:
        writer.write_table(marked)
