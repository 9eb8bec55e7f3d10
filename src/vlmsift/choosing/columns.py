"""A run's columns as millions of rows allow: what a choice needs of every row is kept small, the rest is read late.

In: pieces of a run, or of a table, in the pool's order. Out: per row a code for each word, a number, a bit; and pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vlmsift.errors import UsageError
from vlmsift.runs.columns import NOT_ASKED

Codes = NDArray[np.int32]
CODED = ("source", "answer_key")  # words of which many rows have the same
_STATES = ("ok", "error", NOT_ASKED)
WHOLE = 2**28  # numbers of a vector column that are held at once, 1 GB


class Coded(NamedTuple):
    """N words of which many are the same."""

    codes: Codes  # (N,) places in `names`; null is one beyond the last
    names: list[str]  # sorted, each different


class Columns:
    """N rows in the pool's order.

    Args:
        batches: names of columns -> their `pyarrow.RecordBatch`es, which together hold the N rows.
        schema: of all columns. vectors: of those of lists, column -> loads (N, K).
        pieces: column of lists -> its (n, K) one after another, where all of it would take more than `WHOLE` numbers.
        matching: SQL condition -> values of `index`.
        at_once: columns that are read in one go, when the first of them is asked for.
    """

    def __init__(
        self,
        count: int,
        schema: Any,
        batches: Callable[[Sequence[str]], Iterator[Any]],
        vectors: Mapping[str, Callable[[], NDArray[np.float32]]],
        matching: Callable[[str], NDArray[np.int64]],
        at_once: Sequence[str] = (),
        pieces: Mapping[str, Callable[[], Iterator[NDArray[np.float32]]]] | None = None,
    ) -> None:
        self._pieces = pieces or {}
        self._count, self.schema, self.batches, self.vectors, self._matching = count, schema, batches, vectors, matching
        self._at_once, self._known = tuple(at_once), dict[str, Any]()

    def __len__(self) -> int:
        return self._count

    def number(self, name: str) -> NDArray[np.floating[Any]]:
        """(N,) float values of a scalar column, in its own precision; NaN where undefined."""
        if name in self.vectors:
            raise UsageError(f"the signal {name!r} is a vector; choose by a signal that is one number per sample")
        kind = self.schema.field(name).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            raise UsageError(f"column {name!r} holds {kind}, not numbers; it cannot rank samples.")
        found: NDArray[np.floating[Any]] = self._column(name)
        return found

    def coded(self, name: str) -> Coded:
        """One of the columns `CODED`."""
        found: Coded = self._column(name)
        return found

    @property
    def text_only(self) -> NDArray[np.bool_]:
        """(N,) True where a row has no image."""
        return np.asarray(self._column("images"), np.bool_)

    @property
    def failed(self) -> NDArray[np.bool_]:
        """(N,) True for error rows."""
        return np.asarray(self._column("status") == _STATES.index("error"), np.bool_)

    @property
    def not_asked(self) -> NDArray[np.bool_]:
        """(N,) True for rows that the model was not to look at."""
        return np.asarray(self._column("status") == _STATES.index(NOT_ASKED), np.bool_)

    def vector(self, name: str, rows: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """(n, K) float32 of a vector column for those `rows` (n,), in that order; NaN where undefined. A copy.

        Of a column too large to be held only these rows are: all of it is read for them.
        """
        if name not in self._pieces:
            held: NDArray[np.float32] = self.vectors[name]()[rows]
            return held
        order = np.argsort(rows, kind="stable")
        sought, found = rows[order], np.zeros((0, 0), np.float32)
        for start, piece in self.vector_pieces(name):
            low, high = np.searchsorted(sought, [start, start + len(piece)])
            if not found.size:
                found = np.empty((len(rows), piece.shape[1]), np.float32)
            found[order[low:high]] = piece[sought[low:high] - start]
        return found

    def in_pieces(self, name: str) -> bool:
        """Whether a vector column is too large to be held."""
        return name in self._pieces

    def vector_pieces(self, name: str) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """First row and (n, K) float32 of each piece of a vector column, in the pool's order."""
        start = 0
        for piece in self._pieces[name]() if name in self._pieces else [self.vectors[name]()]:
            yield start, piece
            start += len(piece)

    @cached_property
    def ids(self) -> Any:
        """N ids as a `pyarrow.ChunkedArray`: for who names rows in reasons. A choice among millions does without."""
        return pa.chunked_array([batch["id"] for batch in self.batches(["id"])], pa.string())

    def matching(self, where: str) -> NDArray[np.bool_]:
        """(N,) True for the rows where the SQL condition holds."""
        found, mask = self._matching(where), np.zeros(self._count, np.bool_)
        start = 0
        for batch in self.batches(["index"]):
            index = batch["index"].to_numpy()
            mask[start : start + len(index)] = _among(index, found)
            start += len(index)
        return mask

    def _column(self, name: str) -> Any:
        if name not in self._known:
            missing = [one for one in dict.fromkeys([*self._at_once, name]) if one not in self._known]
            self._known |= self._read(missing)
        return self._known[name]

    def _read(self, names: Sequence[str]) -> dict[str, Any]:
        readers = {name: self._reader(name) for name in names}
        start = 0
        for batch in self.batches(names):
            for name, reader in readers.items():
                reader.add(start, batch[name])
            start += len(batch)
        return {name: reader.done() for name, reader in readers.items()}

    def _reader(self, name: str) -> Any:
        if name in CODED:
            return _Words(self._count)
        if name == "images":
            return _Numbers(self._count, np.bool_, lambda column: column.to_numpy(zero_copy_only=False) == 0)
        if name == "status":
            return _Numbers(self._count, np.int8, _state_codes)
        kind = self.schema.field(name).type
        dtype = kind.to_pandas_dtype() if pa.types.is_floating(kind) else np.float64
        return _Numbers(self._count, dtype, lambda column: column.to_numpy(zero_copy_only=False))


def _state_codes(column: Any) -> NDArray[np.int8]:
    """(n,) places in `_STATES`."""
    return np.asarray(pc.index_in(column, pa.array(_STATES)).to_numpy(zero_copy_only=False), np.int8)


def _among(index: NDArray[np.int64], found: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) whether each of `index` is one of the `found`, which ascend."""
    place = np.minimum(np.searchsorted(found, index), max(len(found) - 1, 0))
    return found[place] == index if len(found) else np.zeros(len(index), np.bool_)


class _Numbers:
    """Gathers N numbers or bits."""

    def __init__(self, count: int, dtype: Any, convert: Callable[[Any], NDArray[Any]]) -> None:
        self._values, self._convert = np.empty(count, dtype), convert

    def add(self, start: int, column: Any) -> None:
        self._values[start : start + len(column)] = self._convert(column)

    def done(self) -> NDArray[Any]:
        return self._values


class _Words:
    """Gathers N words as codes; the different ones are held once."""

    def __init__(self, count: int) -> None:
        self._codes, self._known = np.empty(count, np.int32), dict[str, int]()

    def add(self, start: int, column: Any) -> None:
        encoded = column.dictionary_encode()
        local = [self._known.setdefault(word, len(self._known)) for word in encoded.dictionary.to_pylist()]
        places = np.array([*local, -1], np.int32)  # null comes last
        self._codes[start : start + len(column)] = places[encoded.indices.fill_null(len(local)).to_numpy()]

    def done(self) -> Coded:
        words = pa.array(self._known, pa.string())
        order = pc.sort_indices(words).to_numpy()
        places = np.empty(len(order) + 1, np.int32)
        places[order], places[-1] = np.arange(len(order)), len(order)
        for start in range(0, len(self._codes), 2**20):
            part = slice(start, start + 2**20)
            self._codes[part] = places[self._codes[part]]  # -1 is the last place
        return Coded(self._codes, words.take(pa.array(order)).to_pylist())
