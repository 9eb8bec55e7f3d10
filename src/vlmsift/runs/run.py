"""The run folder. In: settings and measured rows. Out: columns to choose from. Whenever killed, its parts are complete.

    run/run.json, run/sessions/       what was measured, with what; enough to do it again (see `vlmsift.runs.record`)
    run/signals/part-000000.parquet   `part_size` consecutive rows of the pool; complete or absent
    run/selections/NAME.parquet       a saved selection (written by `vlmsift.selectors`)
    run/plants/                       what planted twins told of the pool (see `vlmsift.runs.spoiled`)
    run/checkpoints/                  of a run that was joined from several: theirs (see `vlmsift.runs.checkpoints`)

Several processes may write the same run: each part is the same bytes, whoever writes it, and the last whole one stays.
A part carries the digest of its run's identity and checksums of its pages, so one that is foreign or damaged is told.
What the numbers mean, and which model gave them, is not known here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vlmsift.errors import RunMismatch, UsageError
from vlmsift.files import (
    as_json,
    compare,
    plain,
    remove_leftovers,
)
from vlmsift.folders import Folder, LocalFolder, open_folder
from vlmsift.runs.beginning import check_run_folder, drop_parts
from vlmsift.runs.columns import FIXED, Column, columns_in, is_schema, schema_in, to_arrow
from vlmsift.runs.part_facts import KEY, PartFacts, facts_in, facts_of, summed
from vlmsift.runs.query import SECONDS, SECONDS_PER_ROW, as_vectors, matching
from vlmsift.runs.record import (
    PART,
    RECORD,
    SCHEMA,
    Session,
    as_known,
    digest_of,
    read_record,
    read_sessions,
)

IDENTITY = b"vlmsift.identity"  # key in the metadata of a part: the digest of its run's identity
_CHECKED = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)
_CURE = "Delete that part and start the same score command again: it is then scored anew."


class Run:
    """A run folder. Make one with `create_or_resume` (to write) or `open` (to read).

    Attributes:
        home: the folder by its five verbs. settings: what run.json holds.
    """

    def __init__(self, home: Folder, settings: Mapping[str, Any]) -> None:
        self.home, self.settings = home, settings
        self._session: Session | None = None  # begun when there is something to note

    @property
    def folder(self) -> Path:
        """Its path. Raises UsageError for a run that is not on a disk."""
        if isinstance(self.home, LocalFolder):
            return self.home.path
        raise UsageError(f"{self.place} lies in a store, and this needs a disk. Copy the run to one first.")

    @property
    def place(self) -> str:
        """Its path or URL, as it is told to the user."""
        return self.home.place

    @classmethod
    def create_or_resume(
        cls, folder: str | os.PathLike[str], settings: Mapping[str, Any], *, overwrite: bool = False
    ) -> Run:
        """Begin a run in a new or empty folder, or go on with the same one.

        `settings["identity"]` (nested, JSON) holds all that changes a number, with at least `data` (its `fingerprint`),
        `rows` (of the pool), `part_size` and `signals`, a mapping of name to `{"width", "unit", "higher_means", ...}`,
        with `"vector": True` for a vector of width 1. `settings["info"]` may differ from start to start: the first is
        kept in run.json, and each in a file of its own, with what `settings["worker"]` tells of this one.

        Raises:
            RunMismatch: the folder holds a run with another identity; each difference is named.
            UsageError: the folder is not empty and not a run, or its run.json cannot be used; with `overwrite`, a part
                in it is not one of that run.
        """
        home = open_folder(folder)
        identity, info = plain(settings["identity"]), plain(settings.get("info", {}))
        if taken := [name for name in identity["signals"] if name in FIXED.names and name != "answer_tokens"]:
            raise UsageError(f"a signal cannot be called {taken[0]!r}: each run has a column of that name. Rename it.")
        check_run_folder(folder)
        if isinstance(home, LocalFolder):
            for place in ("", "signals", "selections", "sessions"):
                remove_leftovers(home.path / place)
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        record = {"schema": SCHEMA, "identity": identity, "info": info, "created": now}
        if not home.put_new(RECORD, as_json(record).encode()):
            if overwrite:
                drop_parts(folder)  # run.json last, by being replaced: killed half-way, it is the old run, less parts
                home.put(RECORD, as_json(record).encode())
            else:
                record = read_record(home)
                compare(home.place, record["identity"], as_known(record, identity))
        run = cls(home, record)
        run._session = Session(home, {**info, **settings.get("worker", {})})
        return run

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Run:
        """Open a run to read. Raises UsageError where it is not a run, has no parts yet, or is of a newer version."""
        home = open_folder(folder)
        if isinstance(home, LocalFolder) and not home.path.is_dir():
            raise UsageError(f"{folder}: there is no such run folder. `vlmsift score` makes one.")
        run = cls(home, read_record(home))
        if not run.finished_parts():
            raise UsageError(f"{run.place}: the run has no finished part yet. Start the same score command again.")
        return run

    @property
    def part_size(self) -> int:
        """Rows per part; the last part may hold fewer."""
        return int(self.settings["identity"]["part_size"])

    @property
    def pool_rows(self) -> int:
        """Rows of the pool, scored or not."""
        return int(self.settings["identity"]["rows"])

    @property
    def parts(self) -> range:
        """Numbers of all parts, there or not."""
        return range(-(-self.pool_rows // self.part_size))

    def rows_of(self, part: int) -> range:
        """The rows of the pool that a part holds."""
        return range(part * self.part_size, min((part + 1) * self.part_size, self.pool_rows))

    def columns(self) -> list[Column]:
        """The signals of this run, in the order they were asked for."""
        return columns_in(self.settings["identity"])

    @property
    def schema(self) -> Any:
        """`pyarrow.Schema` of a part: the fixed columns, then the signals."""
        return schema_in(self.settings["identity"])

    def finished_parts(self) -> set[int]:
        """Numbers of the parts that are complete."""
        names = self.home.list("signals/part-")
        return {int(match[1]) for name in names if (match := PART.fullmatch(name))}

    def sessions(self) -> list[dict[str, Any]]:
        """Each start of each worker: when, on what, and what it proved of its model."""
        return read_sessions(self.home, self.settings)

    def has_part(self, part: int) -> bool:
        """Whether that part is complete; asks for nothing else."""
        return self.home.has(_name(part))

    def note_proof(self, proof: Mapping[str, Any]) -> None:
        """Add to this start's record what was proved of the model that measures."""
        assert self._session is not None, "a run that is open to be read measures nothing"
        self._session.note_proof(proof)

    def write_part(self, part: int, rows: Mapping[str, NDArray[Any]]) -> None:
        """Store the n rows `part * part_size ...` of the pool, all at once or not at all.

        `rows` maps each fixed column (nullable ones may be left out) and each signal to n values, in any order of rows:
        (n,) numbers or, as objects, words; (n, K) for a signal of width K. NaN and None become null, a row of NaN a
        null list. Raises ValueError where rows or columns are not those of this part: a fault in the program, not in
        the data.
        """
        index = np.asarray(rows["index"], np.int64)
        order = np.argsort(index, kind="stable")
        own = self.rows_of(part)
        if not np.array_equal(index[order], own) or not own:
            told = f"rows {own.start} to {own.stop - 1}"
            raise ValueError(f"part {part} of {self.pool_rows} rows takes {told}, got {index}")
        schema, widths = self.schema, {column.name: column.width for column in self.columns()}
        if unknown := [name for name in rows if name not in schema.names]:
            raise ValueError(f"columns {unknown} are not in this run; it has {schema.names}")
        arrays = [to_arrow(rows, field, widths.get(field.name, 1), len(index)) for field in schema]
        table = pa.Table.from_arrays(arrays, schema=schema).take(pa.array(order))  # (n, columns), in the pool's order
        lacking = pc.and_(pc.not_equal(table["status"], "ok"), pc.is_null(table["reason"]))
        if pc.any(lacking).as_py():
            raise ValueError(f"part {part} has error rows without a reason: {table.filter(lacking)['id'].to_pylist()}")
        facts = facts_of(table, list(widths))
        table = table.replace_schema_metadata({IDENTITY: self._digest, KEY: facts.encode()})
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
        self.home.put(_name(part), memoryview(buffer.getvalue()))

    def part(self, part: int) -> Any:
        """One finished part as a `pyarrow.Table`, in the pool's order."""
        return self._scan(None, files=[_name(part)])

    def rows(self, start: int, stop: int, columns: Sequence[str] | None = None) -> Any:
        """The rows `start` to `stop` - 1 of the pool as one `pyarrow.Table`; of their parts alone is anything read."""
        parts = range(start // self.part_size, -(-stop // self.part_size))
        table = self._scan(columns, files=[_name(part) for part in parts])
        return table.slice(start - parts.start * self.part_size, stop - start)

    def table(self, columns: Sequence[str] | None = None) -> Any:
        """All finished parts as one `pyarrow.Table` in the pool's order; only `columns`, where given."""
        for name in columns or ():
            if name not in self.schema.names:
                raise UsageError(f"the run has no column {name!r}. It has: {', '.join(self.schema.names)}.")
        return self._scan(columns)

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """Those columns of all finished parts in the pool's order, as `pyarrow.RecordBatch`es of a part at most."""
        files = self._files()
        with self._readable():
            for at in range(0, len(files), 128):  # Arrow keeps 90 kB of each file until a data set's last is read
                some = self._dataset(self.schema, files[at : at + 128])
                yield from some.to_batches(columns=list(columns), batch_size=2**17)

    def query(self, where: str) -> NDArray[np.int64]:
        """Rows of the pool, ascending, for which the SQL condition `where` over the scalar columns holds (DuckDB).

        The columns that it names are read a piece at a time.
        """
        scalars = pa.schema([field for field in self.schema if not pa.types.is_nested(field.type)])
        with self._readable():
            return matching(self._dataset(scalars), where, max(SECONDS, self.stored_rows * SECONDS_PER_ROW))

    def vector(self, column: str) -> NDArray[np.float32]:
        """(N, K) float32 of a vector signal, in the pool's order; rows of NaN where it is undefined."""
        widths = {one.name: one.width for one in self.columns() if one.is_list}
        if column not in widths:
            raise UsageError(f"{self.place} has no vector signal {column!r}. It has: {', '.join(self.schema.names)}.")
        vectors = np.empty((self.stored_rows, widths[column]), np.float32)  # (N, K)
        start = 0
        for part in self.vector_pieces(column):  # Arrow's copy of them all would take the memory twice
            vectors[start : start + len(part)] = part
            start += len(part)
        return vectors

    def vector_pieces(self, column: str) -> Iterator[NDArray[np.float32]]:
        """(n, K) float32 of each finished part, in the pool's order; rows of NaN where it is undefined."""
        width = next(one.width for one in self.columns() if one.name == column)
        for file in self._files():
            part = as_vectors(self._scan([column], files=[file])[column])
            yield part if part.shape[1] == width else np.full((len(part), width), np.nan, np.float32)  # all undefined

    @property
    def stored_rows(self) -> int:
        """How many rows the finished parts hold, by their numbers alone."""
        return sum(len(self.rows_of(part)) for part in self.finished_parts())

    def summary(self) -> dict[str, Any]:
        """Row counts: stored, missing, not asked, ok, text_only; `errors` per kind; `undefined` ok rows per signal.

        Raises RunMismatch where a part is not of this run.
        """
        self.check_parts()
        return summed((facts for _, facts in self.facts()), [column.name for column in self.columns()], self.pool_rows)

    def signals_hash(self) -> str:
        """sha256 (hex) over names and contents of the finished parts, as each tells them of itself."""
        found = hashlib.sha256()
        for name, facts in self.facts():
            found.update(f"{name} {facts.digests}\n".encode())
        return found.hexdigest()

    def facts(self) -> Iterator[tuple[str, PartFacts]]:
        """File name and facts of each finished part, in order; the rows are read only where a part has none."""
        names = [column.name for column in self.columns()]
        with self._readable():
            for file in self._files():
                told = facts_in(pq.read_metadata(file, filesystem=self.home.arrow).metadata)
                yield file.rpartition("/")[2], told or facts_of(self._scan(None, files=[file]), names)

    def check_parts(self) -> None:
        """Look at what every finished part says of itself. Raises RunMismatch for one that is not of this run."""
        for part in sorted(self.finished_parts()):
            try:
                schema = pq.read_schema(_name(part), filesystem=self.home.arrow)
            except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
                raise self._unreadable(error, part) from error
            self._refuse_foreign(part, schema)

    def check_part(self, part: int) -> Any:
        """Read a finished part whole, and give it. Raises as every reader: RunMismatch, or UsageError for a damage."""
        try:
            table = pq.read_table(pa.BufferReader(self.home.read(_name(part))), page_checksum_verification=True)
            self._refuse_foreign(part, table.schema)
            told = facts_in(table.schema.metadata)
            if told is not None and told != facts_of(table, [column.name for column in self.columns()]):
                raise OSError("its rows are not what it tells of them")
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise self._unreadable(error, part) from error
        return table

    def _refuse_foreign(self, part: int, schema: Any) -> None:
        """Raise RunMismatch where a file with this schema is no part of this run."""
        carried = (schema.metadata or {}).get(IDENTITY)
        problem = None
        if carried != self._digest and (carried is not None or self.settings["schema"] > 1):
            problem = "carries the identity of another run"
        elif not is_schema(schema, self.schema):
            problem = f"has other columns than this run ({schema.names})"
        if problem is not None:
            raise RunMismatch(f"{self.place}/{_name(part)} {problem}. {_CURE}")

    @cached_property
    def _digest(self) -> bytes:
        return digest_of(self.settings["identity"]).encode()

    def _scan(self, columns: Any, files: Sequence[str] | None = None) -> Any:
        with self._readable():
            return self._dataset(self.schema, files).to_table(columns=columns)

    def _dataset(self, schema: Any, files: Sequence[str] | None = None) -> Any:
        chosen = list(self._files() if files is None else files)
        return ds.dataset(chosen, schema=schema, filesystem=self.home.arrow, format=_CHECKED)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowInvalid) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception, part: int | None = None) -> UsageError:
        which = "a part" if part is None else _name(part)
        return UsageError(f"{self.place}: {which} cannot be read ({' '.join(str(error).split())}). {_CURE}")

    def _files(self) -> list[str]:
        return [_name(part) for part in sorted(self.finished_parts())]


def _name(part: int) -> str:
    return f"signals/part-{part:06d}.parquet"
