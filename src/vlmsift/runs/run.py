"""The run folder. In: settings and measured rows. Out: columns to choose from. Whenever killed, its parts are complete.

    run/run.json                      settings: what was measured, with what; enough to do it again
    run/signals/part-000000.parquet   `part_size` consecutive rows of the pool; complete or absent
    run/selections/NAME.parquet       a saved selection (written by `vlmsift.selectors`)
    run/plants/                       what planted twins told of the pool (see `vlmsift.runs.spoiled`)
    run/checkpoints/                  of a run that was joined from several: theirs (see `vlmsift.runs.checkpoints`)

Several processes may write the same run: each part is the same bytes, whoever writes it, and the last whole one stays.
What the numbers mean, and which model gave them, is not known here.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vlmsift.errors import UsageError, split_reason
from vlmsift.files import (
    as_json,
    check_output,
    compare,
    is_temporary,
    plain,
    read_json,
    remove_leftovers,
    write_atomically,
)
from vlmsift.folders import LocalFolder
from vlmsift.runs.query import as_vectors, matching
from vlmsift.runs.spoiled import FILE, PLANTS

SCHEMA = 1  # version of the folder's layout, written to run.json
FIXED = pa.schema(
    [
        pa.field("index", pa.int64(), nullable=False),  # row of the pool, from 0
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string()),
        pa.field("answer_key", pa.string()),  # the last answer, normalised, where it is short
        pa.field("question", pa.string()),  # what was asked before that answer, normalised and cut
        pa.field("images", pa.int32(), nullable=False),  # how many; 0 = text-only
        pa.field("answer_tokens", pa.int32()),
        pa.field("status", pa.string(), nullable=False),  # "ok" or "error"
        pa.field("reason", pa.string()),  # of an error row, as "kind: detail"
    ]
)  # the columns of every run; one per signal follows. The signal `answer_tokens`, where asked for, is the column here
LATER = ("question",)  # fixed columns that a run of an earlier version may lack; they read as null
INSIDE = "checkpoints"  # folder inside a run for the runs of the checkpoints that it was joined from
SELECTION = b"vlmsift.made_by"  # key in the metadata of a saved selection: how it was made
_PART = re.compile(r"signals/part-(\d{6,})\.parquet")


@dataclass(frozen=True)
class Column:
    """A signal as stored: float32, or a list of `width` float32; undefined is null.

    The list type is Parquet's own; many readers fail on nulls in Arrow's fixed-size one.
    """

    name: str
    width: int = 1
    unit: str = ""
    higher_means: str = ""
    vector: bool = False  # a list even where `width` is 1; one that is wider is a list in any case

    @property
    def is_list(self) -> bool:
        return self.vector or self.width > 1

    @property
    def field(self) -> Any:
        """The column as a `pyarrow.Field`."""
        return pa.field(self.name, pa.list_(pa.float32()) if self.is_list else pa.float32())


class _Layout(msgspec.Struct):
    schema: int


# what no run.json may lack
_DATA = msgspec.defstruct("_Data", [("fingerprint", str)])
_SIGNALS = ("signals", dict[str, dict[str, Any]])
_IDENTITY = msgspec.defstruct("_Identity", [("data", _DATA), ("rows", int), ("part_size", int), _SIGNALS])
_SETTINGS = msgspec.defstruct("_Settings", [("identity", _IDENTITY), ("info", dict[str, Any])])


class Run:
    """A run folder. Make one with `create_or_resume` (to write) or `open` (to read)."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder, self.settings = folder, settings

    @classmethod
    def create_or_resume(
        cls, folder: str | os.PathLike[str], settings: Mapping[str, Any], *, overwrite: bool = False
    ) -> Run:
        """Begin a run in a new or empty folder, or go on with the same one.

        `settings["identity"]` (nested, JSON) holds all that changes a number, with at least `data` (its `fingerprint`),
        `rows` (of the pool), `part_size` and `signals`, a mapping of name to `{"width", "unit", "higher_means", ...}`,
        with `"vector": True` for a vector of width 1. `settings["info"]` may differ from start to start: the first is
        kept, and each is listed in `sessions`.

        Raises:
            RunMismatch: the folder holds a run with another identity; each difference is named.
            UsageError: the folder is not empty and not a run, or its run.json cannot be used; with `overwrite`, a part
                in it is not one of that run.
        """
        folder = Path(folder)
        identity, info = plain(settings["identity"]), plain(settings.get("info", {}))
        if taken := [name for name in identity["signals"] if name in FIXED.names and name != "answer_tokens"]:
            raise UsageError(f"a signal cannot be called {taken[0]!r}: each run has a column of that name. Rename it.")
        check_run_folder(folder)
        for place in (folder, folder / "signals", folder / "selections"):
            remove_leftovers(place)
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        session = {"started": now, **info}
        record = {"schema": SCHEMA, "identity": identity, "info": info, "created": now, "sessions": [session]}
        home, begun = LocalFolder(folder), (folder / "run.json").exists()
        if not begun and home.put_new("run.json", as_json(record).encode()):
            return cls(folder, record)
        if overwrite:
            drop_parts(folder)  # run.json last, by being replaced: killed half-way, it is the old run with fewer parts
        else:
            known = _read(folder)
            compare(folder, known["identity"], identity)
            record = {**known, "sessions": [*known["sessions"], session]}
        home.put("run.json", as_json(record).encode())
        return cls(folder, record)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Run:
        """Open a run to read. Raises UsageError where it is not a run, has no parts yet, or is of a newer version."""
        run = cls(Path(folder), _read(Path(folder)))
        if not run.finished_parts():
            raise UsageError(f"{run.folder}: the run has no finished part yet. Start the same score command again.")
        return run

    @property
    def part_size(self) -> int:
        """Rows per part; the last part may hold fewer."""
        return int(self.settings["identity"]["part_size"])

    @property
    def pool_rows(self) -> int:
        """Rows of the pool, scored or not."""
        return int(self.settings["identity"]["rows"])

    def columns(self) -> list[Column]:
        """The signals of this run, in the order they were asked for."""
        known = {"width", "unit", "higher_means", "vector"}
        signals = self.settings["identity"]["signals"].items()
        return [Column(name, **{key: signal[key] for key in known & signal.keys()}) for name, signal in signals]

    @property
    def schema(self) -> Any:
        """`pyarrow.Schema` of a part: the fixed columns, then the signals."""
        return pa.schema([*FIXED, *(column.field for column in self.columns() if column.name not in FIXED.names)])

    def finished_parts(self) -> set[int]:
        """Numbers of the parts that are complete."""
        names = LocalFolder(self.folder).list("signals/part-")
        return {int(match[1]) for name in names if (match := _PART.fullmatch(name))}

    def note_proof(self, proof: Mapping[str, Any]) -> None:
        """Add to this start's entry in `sessions` what was proved of the model that measures."""
        self.settings["sessions"][-1].setdefault("proofs", []).append(plain(proof))
        LocalFolder(self.folder).put("run.json", as_json(self.settings).encode())

    def write_part(self, part: int, rows: Mapping[str, NDArray[Any]]) -> None:
        """Store the n rows `part * part_size ...` of the pool, all at once or not at all.

        `rows` maps each fixed column (nullable ones may be left out) and each signal to n values, in any order of rows:
        (n,) numbers or, as objects, words; (n, K) for a signal of width K. NaN and None become null, a row of NaN a
        null list. Raises ValueError where rows or columns are not those of this part: a fault in the program, not in
        the data.
        """
        index = np.asarray(rows["index"], np.int64)
        order = np.argsort(index, kind="stable")
        first, end = part * self.part_size, min((part + 1) * self.part_size, self.pool_rows)
        if not np.array_equal(index[order], np.arange(first, end)) or first >= end:
            raise ValueError(f"part {part} of {self.pool_rows} rows takes rows {first} to {end - 1}, got {index}")
        schema, widths = self.schema, {column.name: column.width for column in self.columns()}
        if unknown := [name for name in rows if name not in schema.names]:
            raise ValueError(f"columns {unknown} are not in this run; it has {schema.names}")
        arrays = [_to_arrow(rows, field, widths.get(field.name, 1), len(index)) for field in schema]
        table = pa.Table.from_arrays(arrays, schema=schema).take(pa.array(order))  # (n, columns), in the pool's order
        lacking = pc.and_(pc.equal(table["status"], "error"), pc.is_null(table["reason"]))
        if pc.any(lacking).as_py():
            raise ValueError(f"part {part} has error rows without a reason: {table.filter(lacking)['id'].to_pylist()}")
        (self.folder / "signals").mkdir(exist_ok=True)
        write_atomically(self._path(part), lambda temporary: pq.write_table(table, temporary, compression="zstd"))

    def part(self, part: int) -> Any:
        """One finished part as a `pyarrow.Table`, in the pool's order."""
        return self._scan(None, files=[self._path(part)])

    def table(self, columns: Sequence[str] | None = None) -> Any:
        """All finished parts as one `pyarrow.Table` in the pool's order; only `columns`, where given."""
        for name in columns or ():
            if name not in self.schema.names:
                raise UsageError(f"the run has no column {name!r}. It has: {', '.join(self.schema.names)}.")
        return self._scan(columns)

    def query(self, where: str) -> NDArray[np.int64]:
        """Rows of the pool, ascending, for which the SQL condition `where` over the scalar columns holds (DuckDB)."""
        return matching(self.table([field.name for field in self.schema if not pa.types.is_nested(field.type)]), where)

    def vector(self, column: str) -> NDArray[np.float32]:
        """(N, K) float32 of a vector signal, in the pool's order; rows of NaN where it is undefined."""
        widths = {one.name: one.width for one in self.columns() if one.is_list}
        if column not in widths:
            raise UsageError(f"{self.folder} has no vector signal {column!r}. It has: {', '.join(self.schema.names)}.")
        vectors = np.empty((len(self.table(["index"])), widths[column]), np.float32)  # (N, K)
        start = 0
        for file in self._files():  # part by part: Arrow's copy of them all would take the memory twice
            part = as_vectors(self._scan([column], files=[file])[column])
            vectors[start : start + len(part)] = part  # (n, K); (n, 1) where all are undefined, whose NaN spreads
            start += len(part)
        return vectors

    def summary(self) -> dict[str, Any]:
        """Row counts: stored, missing, ok, text_only; `errors` per kind; `undefined` ok rows per signal."""
        rows = self._scan(["status", "reason", "images"])
        names = [column.name for column in self.columns()]
        undefined = self._scan({name: ds.field(name).is_null() for name in names}, ds.field("status") == "ok")
        reasons = rows.filter(pc.equal(rows["status"], "error"))["reason"].to_pylist()
        return {
            "rows": len(rows),
            "missing": self.pool_rows - len(rows),
            "ok": len(rows) - len(reasons),
            "text_only": int(np.sum(rows["images"].to_numpy() == 0)),
            "errors": dict(Counter(split_reason(reason)[0] for reason in reasons).most_common()),
            "undefined": {name: int(np.sum(undefined[name].to_numpy())) for name in names},
        }

    def signals_hash(self) -> str:
        """sha256 (hex) over names and contents of the finished parts."""
        digest = hashlib.sha256()
        for file in self._files():
            digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()

    def _scan(self, columns: Any, condition: Any = None, files: Sequence[Path] | None = None) -> Any:
        chosen = [str(file) for file in (self._files() if files is None else files)]
        try:
            return ds.dataset(chosen, schema=self.schema).to_table(columns=columns, filter=condition)
        except (OSError, pa.ArrowInvalid) as error:
            cure = "Delete that part and start the same score command again: it is then scored anew."
            raise UsageError(f"{self.folder}: a part cannot be read ({error}). {cure}") from error

    def _files(self) -> list[Path]:
        return [self._path(part) for part in sorted(self.finished_parts())]

    def _path(self, part: int) -> Path:
        return self.folder / "signals" / f"part-{part:06d}.parquet"


def _to_arrow(rows: Mapping[str, Any], field: Any, width: int, count: int) -> Any:
    """One column of a part as a `pyarrow.Array` of `field`'s type, NaN as null."""
    if field.name not in rows:
        if field.name not in FIXED.names or not field.nullable:
            raise ValueError(f"column {field.name!r} is missing")
        return pa.nulls(count, field.type)
    values, nested = rows[field.name], pa.types.is_nested(field.type)
    shape = (count, width) if nested else (count,)
    if np.shape(values) != shape:
        raise ValueError(f"column {field.name!r} takes {shape} values, got {np.shape(values)}")
    if not nested:
        return pa.array(values, field.type, from_pandas=True)
    defined = ~np.isnan(values).all(axis=1)  # (n,)
    offsets = np.concatenate([[0], np.cumsum(defined * width)]).astype(np.int32)  # (n + 1,)
    flat = pa.array(np.asarray(values, np.float32)[defined].ravel(), from_pandas=True)  # (defined * K,)
    return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=pa.array(~defined))


def recorded(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The identity of the run in a folder; empty where there is none. Raises UsageError as `check_run_folder`."""
    check_run_folder(folder)
    return dict(_read(Path(folder))["identity"]) if (Path(folder) / "run.json").exists() else {}


def check_run_folder(folder: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Raise UsageError where no run can be begun, nor gone on with: a file, a device, a folder with other things.

    With `overwrite`, what lies there is to be thrown away, so it must be proven to be a run of ours.
    """
    folder = Path(folder)
    check_output(folder, folder=True)
    names = os.listdir(folder) if folder.exists() else []
    others = [name for name in names if not is_temporary(name) and name != INSIDE]
    if others and not (folder / "run.json").exists():  # another process may have begun the run since they were listed
        raise UsageError(f"{folder} is not empty and not a run (it holds {min(others)!r}). Name another --out folder.")
    if overwrite:
        _droppable(folder)


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such run folder. `vlmsift score` makes one.")
    try:
        record: dict[str, Any] = read_json(path)
        version = msgspec.convert(record, _Layout).schema
        if version <= SCHEMA:
            msgspec.convert(record, _SETTINGS)
    except FileNotFoundError:
        raise UsageError(f"{folder} is no run: it has no run.json. Name the --out folder of `vlmsift score`.") from None
    except ValueError as error:  # no JSON, or without what a run has
        cure = "Restore it, or score into another --out folder."
        raise UsageError(f"{path} cannot be read as a run's settings ({error}). {cure}") from error
    if version > SCHEMA:
        raise UsageError(f"{path} is of a newer vlmsift (layout {version}, this one reads {SCHEMA}). Update vlmsift.")
    return record


def drop_parts(folder: Path) -> None:
    """Throw away a run's signals and selections, but not its settings; nothing where there is no run.

    Raises UsageError where what lies there is not proven to be a run of ours; then all of it stays.
    """
    for name in _droppable(folder):
        LocalFolder(folder).remove(name)


def _droppable(folder: Path) -> list[str]:
    """Names of the files that `drop_parts` removes."""
    if not (folder / "run.json").exists():
        return []
    run, home = Run(folder, _read(folder)), LocalFolder(folder)
    parts = [name for name in home.list("signals/") if _PART.fullmatch(name)]
    for name in parts:
        schema = _schema(folder / name)
        if schema is None or not any(schema.equals(own) for own in (run.schema, _earlier(run.schema))):
            cure = "Move it away, or name another --out folder."
            raise UsageError(f"{folder / name} is not a part of the run there, so nothing is thrown away. {cure}")
    told = [name for name in home.list(f"{PLANTS}/") if name == f"{PLANTS}/{FILE}"]
    return told + [name for name in home.list("selections/") if _schema(folder / name, SELECTION) is not None] + parts


def _earlier(schema: Any) -> Any:
    return pa.schema([field for field in schema if field.name not in LATER])


def _schema(path: Path, key: bytes | None = None) -> Any:
    """The `pyarrow.Schema` of a Parquet file; None where it is no such file, or its metadata has no `key`."""
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException):
        return None
    return schema if key is None or key in (schema.metadata or {}) else None
