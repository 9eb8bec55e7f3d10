"""Which samples a page shows. In: columns, and the selection that they are shown for. Out: places, grouped.

All choices are by value or by the seed, so the same run gives the same page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from vlmsift.errors import split_reason
from vlmsift.report.columns import Columns, Floats, Ints
from vlmsift.report.ranking import Ranking

if TYPE_CHECKING:
    from vlmsift.choosing.selection import Selection

EACH = 6  # samples of a kind
PAIRS = 6  # of near-duplicates
CLUSTERS = 8
OF_CLUSTER = 4
ERRORS = 3  # examples of a kind of error
_LIKE = (
    r"(?s)^.*?similarity (?P<alike>[0-9.eE+-]+) to '(?P<near>.*?)'"
    r"(?: is not below [^']*; its keeper is '(?P<keeper>.*)')?$"
)  # what `choosing.nearest_kept` and SemDeDup write
NEAR = 0.9  # least similarity of a near-duplicate


class Group(NamedTuple):
    """Samples shown together."""

    title: str
    about: str
    places: Sequence[int]


class Pair(NamedTuple):
    """A dropped sample and the kept one that it is nearly the same as."""

    dropped: int
    kept: int
    alike: float


def groups(columns: Columns, known: Ranking | None, kept: NDArray[np.bool_] | None) -> list[Group]:
    """The best, the worst, and those on both sides of the cut; without a selection (`kept` is None) the two ends."""
    if known is None:
        return []
    values = known.goodness(columns)
    defined = np.flatnonzero(np.isfinite(values))
    order = defined[np.argsort(-values[defined], kind="stable")]  # best first
    ends = ("highest", "lowest") if known.high else ("lowest", "highest")
    if kept is None:
        parts = (order, order[::-1])
        return [
            Group(f"The {end} {known.name}", "", part[:EACH].tolist()) for end, part in zip(ends, parts, strict=True)
        ]
    best, worst = order[kept[order]], order[~kept[order]][::-1]
    found = [
        Group("The best", f"Kept, with the {ends[0]} {known.name}.", best[:EACH].tolist()),
        Group("The worst", f"Dropped, with the {ends[1]} {known.name}.", worst[:EACH].tolist()),
    ]
    if known.passed is not None:
        passed = known.passed[order]
        near = [*order[passed][::-1][: EACH // 2].tolist(), *order[~passed][: EACH // 2].tolist()]
        about = f"The last that passed and the first that did not, by {known.name}: look here to judge the cut."
        found.append(Group("Next to the cut", about, near))
    return [group for group in found if group.places]


def duplicates(columns: Columns, selection: Selection, kept: NDArray[np.bool_]) -> list[Pair]:
    """Dropped rows whose reason names a kept one that they are like, from most alike to `NEAR`, each kept one once."""
    decisions = selection.decisions
    reasons = decisions["reason"]
    told = pc.match_substring(reasons, "similarity ").to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(np.equal(told, True))
    if not len(rows):
        return []
    parts = pc.extract_regex(reasons.take(rows), _LIKE).combine_chunks()
    alike = pc.cast(pc.struct_field(parts, "alike"), "float64", safe=False).to_numpy(zero_copy_only=False)
    order = np.argsort(-np.nan_to_num(alike, nan=-1.0), kind="stable")
    order = order[np.nan_to_num(alike[order], nan=-1.0) >= NEAR]
    order = order[np.unique(np.linspace(0, len(order) - 1, 4 * PAIRS).astype(int))] if len(order) else order
    ids = decisions["id"]
    found: list[Pair] = []
    for place in [*order[::4].tolist(), *order.tolist()]:
        names = parts[place].as_py()
        keeper = names["keeper"] or names["near"]
        at = pc.index(ids, keeper).as_py()
        rows_of = columns.index.searchsorted(decisions["index"].take([rows[place], max(at, 0)]).to_numpy())
        dropped, other = (int(row) for row in rows_of)
        if at >= 0 and kept[other] and other not in {pair.kept for pair in found}:
            found.append(Pair(dropped, other, float(alike[place])))
        if len(found) == PAIRS:
            break
    return sorted(found, key=lambda pair: -pair.alike)


class Cluster(NamedTuple):
    """Drawn rows whose vectors lie together."""

    number: int
    size: int
    share: float  # of the drawn rows
    kept: float  # share of its rows that are kept
    centre: tuple[float, float]  # on the map
    places: Sequence[int]  # nearest to its middle


def clusters(places: Ints, vectors: Floats, points: Floats, kept: NDArray[np.bool_], seed: int) -> list[Cluster]:
    """The largest clusters of drawn rows (n,) by their vectors (n, K), with a place on the map of `points` (n, 2)."""
    from vlmsift.choosing.clusters import k_means

    order = np.random.default_rng(seed).permutation(len(vectors))
    codes = np.empty(len(vectors), np.int64)
    codes[order] = k_means(vectors[order].astype(np.float32), min(CLUSTERS, len(vectors)), seed)
    found = []
    for number, code in enumerate(np.argsort(-np.bincount(codes), kind="stable").tolist(), 1):
        members = np.flatnonzero(codes == code)
        middle = vectors[members].mean(0)
        near = members[np.argsort(np.linalg.norm(vectors[members] - middle, axis=1), kind="stable")]
        centre = tuple(np.median(points[members], axis=0).tolist())
        share = len(members) / len(vectors)
        shown = places[near[:OF_CLUSTER]].tolist()
        found.append(Cluster(number, len(members), share, float(kept[places[members]].mean()), centre, shown))
    return found


class Fault(NamedTuple):
    """Error rows of one kind."""

    kind: str
    rows: int
    examples: Sequence[tuple[str, str]]  # id, detail


def faults(columns: Columns) -> list[Fault]:
    """Error rows by kind, the commonest first."""
    table = columns.run.table(["id", "status", "reason"]).filter(pc.field("status") == "error")
    kinds = pc.fill_null(pc.struct_field(pc.extract_regex(table["reason"], r"(?s)^(?P<kind>[^:]*).*$"), "kind"), "?")
    counted = pc.value_counts(kinds.combine_chunks()).to_pylist()
    found = []
    for one in sorted(counted, key=lambda one: -one["counts"]):
        rows = table.filter(pc.equal(kinds, one["values"])).slice(0, ERRORS).to_pylist()
        examples = [(row["id"], split_reason(row["reason"])[1]) for row in rows]
        found.append(Fault(one["values"], one["counts"], examples))
    return found
