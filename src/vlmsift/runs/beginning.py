"""What lies where a run is to be. In: a folder. Out: its identity, leave to begin or to go on, or it is cleared.

Nothing is thrown away that does not prove to be a run of ours, and then its parts, choices and sessions alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlmsift.errors import UsageError
from vlmsift.files import check_output, is_temporary
from vlmsift.folders import Folder, LocalFolder, open_folder
from vlmsift.runs.columns import is_schema, schema_in
from vlmsift.runs.record import INSIDE, PART, RECORD, SELECTION, SESSION, SESSIONS, read_record
from vlmsift.runs.spoiled import FILE, PLANTS


def recorded(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The identity of the run in a folder; empty where there is none. Raises UsageError as `check_run_folder`."""
    check_run_folder(folder)
    home = open_folder(folder)
    return dict(read_record(home)["identity"]) if home.has(RECORD) else {}


def check_run_folder(folder: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Raise UsageError where no run can be begun, nor gone on with: a file, a device, a folder with other things.

    With `overwrite`, what lies there is to be thrown away, so it must be proven to be a run of ours.
    """
    home = open_folder(folder)
    if isinstance(home, LocalFolder):
        check_output(home.path, folder=True)
        names: Sequence[str] = os.listdir(home.path) if home.path.exists() else []
    else:
        names = [] if home.has(RECORD) else home.list()
    ours = (INSIDE, SESSIONS.rstrip("/"))
    others = [name for name in names if not is_temporary(name) and name.partition("/")[0] not in ours]
    if others and not home.has(RECORD):  # another process may have begun the run since they were listed
        raise UsageError(f"{folder} is not empty and not a run (it holds {min(others)!r}). Name another --out folder.")
    if overwrite:
        _droppable(home)


def drop_parts(folder: str | os.PathLike[str]) -> None:
    """Throw away a run's signals, selections and sessions, but not its settings; nothing where there is no run.

    Raises UsageError where what lies there is not proven to be a run of ours; then all of it stays.
    """
    home = open_folder(folder)
    for name in _droppable(home):
        home.remove(name)


def _droppable(home: Folder) -> list[str]:
    """Names of the files that `drop_parts` removes."""
    if not home.has(RECORD):
        return []
    own = schema_in(read_record(home)["identity"])
    parts = [name for name in home.list("signals/") if PART.fullmatch(name)]
    for name in parts:
        schema = _schema(home, name)
        if schema is None or not is_schema(schema, own):
            cure = "Move it away, or name another --out folder."
            raise UsageError(f"{home.place}/{name} is not a part of the run there, so nothing is thrown away. {cure}")
    told = [name for name in home.list(f"{PLANTS}/") if name == f"{PLANTS}/{FILE}"]
    chosen = [name for name in home.list("selections/") if _schema(home, name, SELECTION) is not None]
    return told + chosen + [name for name in home.list(SESSIONS) if SESSION.fullmatch(name)] + parts


def _schema(home: Folder, name: str, key: bytes | None = None) -> Any:
    """The `pyarrow.Schema` of a Parquet file; None where it is no such file, or its metadata has no `key`."""
    try:
        schema = pq.read_schema(name, filesystem=home.arrow)
    except (OSError, pa.ArrowException):
        return None
    return schema if key is None or key in (schema.metadata or {}) else None
