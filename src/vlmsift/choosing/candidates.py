"""What a selector is: rows to choose from (Candidates) in, the chosen ones with reasons (Choice) out.

The rows arrive in a seeded random order that depends on their ids alone, not on the pool's order. So whoever breaks
ties, draws or fits clusters by the order in which the rows come is random, repeatable, and blind to the pool's order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vlmsift.choosing.columns import Coded, Columns
from vlmsift.choosing.order import place_type
from vlmsift.errors import UsageError
from vlmsift.parameters import Parameters

COLUMN_FIELDS = ("by", "also", "vector")
_Made = TypeVar("_Made")
Places = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Candidates:
    """N rows of a run that may be chosen."""

    columns: Columns  # of all rows of the run
    stratum: str  # what they have in common, for people: "images" or "text-only"
    seed: int  # for generators; 0 to 2**32 - 1
    rows: Places  # (N,), each row's place among all rows of the run
    spoiled: float | None = None  # share of the pool that looks spoiled, where plants have told it
    memo: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)  # what `once` keeps

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: Places, stratum: str) -> Candidates:
        """Those at `places`, in that order."""
        return Candidates(self.columns, stratum, self.seed, self.rows[places], self.spoiled)

    @property
    def vectors(self) -> Mapping[str, Callable[[], NDArray[np.float32]]]:
        """The run's vector columns -> what loads them, for all rows of the run."""
        return self.columns.vectors

    @property
    def text_only(self) -> NDArray[np.bool_]:
        """(N,) True where a row has no image."""
        return np.asarray(self.columns.text_only[self.rows], np.bool_)

    def coded(self, column: str) -> Coded:
        """`source` or `answer_key` of each row, as codes; of the names some may be of other rows only."""
        codes, names = self.columns.coded(column)
        return Coded(codes[self.rows], names)

    def ids(self, places: Places) -> Any:
        """The ids of those at `places`, as a `pyarrow.Array`. Reads all ids of the run, once."""
        return self.columns.ids.take(pa.array(self.rows[places])).combine_chunks()

    def number(self, column: str) -> NDArray[np.floating[Any]]:
        """(N,) float values of a scalar column, in its own precision; NaN where undefined."""
        return self.columns.number(column)[self.rows]

    def vector(self, column: str) -> NDArray[np.float32]:
        """(N, K) float32 of a vector column; NaN where undefined. The caller's to change."""
        self.check_vector(column)
        return self.columns.vector(column, self.rows)

    def vector_pieces(self, column: str, places: Places, size: int) -> Iterator[tuple[Places, NDArray[np.float32]]]:
        """The vectors of the candidates at `places`, at most `size` at a time, and which places they are of.

        In that order; of a column too large to be held, in the pool's order.
        """
        if not self.columns.in_pieces(column):
            for at in range(0, len(places), size):
                some = places[at : at + size]
                yield some, self.columns.vector(column, self.rows[some])
            return
        holder = np.full(len(self.columns), -1, place_type(len(self.columns)))  # row of the run -> candidate
        holder[self.rows[places]] = places
        for start, piece in self.columns.vector_pieces(column):
            for at in range(0, len(piece), size):
                here = holder[start + at : start + min(at + size, len(piece))]
                mine = np.flatnonzero(here >= 0)
                yield here[mine], piece[at + mine]

    def check_vector(self, column: str) -> None:
        """Raise UsageError where the run has no such vector column."""
        if column not in self.vectors:
            known = f"(vector signals it has: {', '.join(self.vectors) or 'none'})"
            if column in self.columns.schema.names:
                raise UsageError(f"the signal {column!r} is one number per sample, a vector is wanted {known}.")
            cure = f"or score with --signal {column} as well (one forward per sample), into a run of its own."
            cure = f"Choose a rule that does without (such as balance='answer'), {cure}"
            raise UsageError(f"the run lacks the vector signal {column!r} {known}. {cure}")

    def defined(self, column: str, *, partly: bool = False) -> NDArray[np.bool_]:
        """(N,) True where the scalar or vector column is finite; `partly`: where at least one of its numbers is."""
        if column in self.columns.schema.names and column not in self.vectors:
            return np.asarray(np.isfinite(self.number(column)), np.bool_)
        self.check_vector(column)
        found = np.zeros(len(self.columns), np.bool_)
        for start, piece in self.columns.vector_pieces(column):
            finite = np.isfinite(piece)  # (n, K)
            found[start : start + len(piece)] = finite.any(axis=1) if partly else finite.all(axis=1)
        return np.asarray(found[self.rows], np.bool_)

    def once(self, work: Callable[[Candidates], _Made]) -> _Made:
        """`work(self)`, done when it is first asked for: `survivors` and the choice share what is dear."""
        if work not in self.memo:
            self.memo[work] = work(self)
        made: _Made = self.memo[work]
        return made


class Choice(NamedTuple):
    """What a selector did with N candidates and a budget."""

    kept: NDArray[np.int64]  # (budget,) places of the kept candidates, best first
    groups: Any  # N strings (see `words`), the group of each
    reasons: Any  # N strings (see `words`), why each was dropped; ignored for kept ones
    details: Mapping[str, Any]  # JSON values for `Selection.made_by`: a rule that was worked out, a number of clusters


class Verdict(NamedTuple):
    """What a selector that judges found of N candidates."""

    left: NDArray[np.int64]  # (n,) places of those that stay, in the candidates' order
    groups: Any  # N strings (see `words`), the group of each
    reasons: Any  # N strings (see `words`), why each was dropped; ignored for those that stay
    details: Mapping[str, Any]  # as of a `Choice`

    def stays(self, count: int) -> NDArray[np.bool_]:
        """(N,) whether each of the `count` candidates stays."""
        found = np.zeros(count, np.bool_)
        found[self.left] = True
        return found


class Cause(NamedTuple):
    """Why rows may not be chosen."""

    label: str  # for the summary
    mask: NDArray[np.bool_]  # (N,)
    reason: Any  # one, or N strings (see `words`); None = what the run says of each row itself


@dataclass(frozen=True)
class Selector(Parameters):
    """Base of all selectors. A new one is a frozen dataclass in a file of its own, with `name` and `__call__`.

    A field called `by`, `also` or `vector` names a column of the run, and no other field does (see `with_columns`).
    What its fields may hold is their types' to say (see `parameters.Parameters`).
    """

    name: ClassVar[str]
    partly_defined: ClassVar[bool] = False  # whether a row may be ranked with some numbers of its vector NaN, not all

    @property
    def takes_text(self) -> bool:
        """Whether text-only rows come among the others, though their columns are NaN, where all share one rate."""
        return False

    @property
    def columns(self) -> tuple[str, ...]:
        """Signals that must be defined for a row to be ranked; the first, where scalar, is saved as its value.

        The one that the field `by` names, else the one of `vector`, else none.
        """
        return tuple(getattr(self, name) for name in COLUMN_FIELDS if hasattr(self, name))[:1]

    @property
    def reads(self) -> tuple[str, ...]:
        """Signals that it asks the run for: `columns`, and those that may be undefined for a row that is ranked."""
        return self.columns

    @property
    def asks_share(self) -> bool:
        """Whether it wants to know how much of the pool looks spoiled (`Candidates.spoiled`), which plants tell."""
        return False

    def unasked(self) -> Selector:
        """A copy that does not ask for that share, and does what it does where it is unknown."""
        return self

    def screen(self, candidates: Candidates) -> list[Cause]:
        """Rows this selector rules out before the budget is split, beyond the undefined ones. None by default."""
        return []

    def with_columns(self, names: Mapping[str, str]) -> Selector:
        """A copy that reads the column `names[column]` where this one reads `column`; others stay."""
        columns = {name: getattr(self, name) for name in COLUMN_FIELDS if hasattr(self, name)}
        return replace(self, **{name: names.get(column, column) for name, column in columns.items()})

    def check_clean(self) -> None:
        """Raise UsageError where `survivors` would, which is known without any rows."""
        cure = "Give a share or a count, or a selector that judges: mixture, semdedup with eps, random (all stay)."
        raise UsageError(f"keep='clean' cannot be meant: {self.name} ranks, it does not judge. {cure}")

    def survivors(self, candidates: Candidates) -> int:
        """How many of the N candidates stay where no budget is asked for: then exactly those are kept.

        Raises UsageError where the selector ranks, and does not judge.
        """
        self.check_clean()
        raise NotImplementedError

    def check_judge(self) -> None:
        """Raise UsageError where it cannot stand before a `then`: it has no `judge` of its own."""
        if type(self).judge is Selector.judge:
            raise UsageError(f"{self.name!r} cannot stand before 'then': it chooses, it does not judge. Give judge.")

    def judge(self, candidates: Candidates, budget: int | None) -> Verdict:
        """Which of the N candidates stay, at least `budget` of them; None = no budget is asked for."""
        self.check_judge()
        raise NotImplementedError

    def __call__(self, candidates: Candidates, budget: int) -> Choice:
        """Choose exactly `budget` (0 to N) of the N candidates (N at least 1)."""
        raise NotImplementedError
