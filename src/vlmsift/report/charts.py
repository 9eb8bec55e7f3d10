"""The page's charts. In: columns, kept rows. Out: `Figure`s: a chart or a table of bars, with the words around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from vlmsift.report import svg
from vlmsift.report.cards import cut
from vlmsift.report.columns import BINS, POINTS, Columns, Floats, Ints, Spread
from vlmsift.report.ranking import LEFT_OUT, Ranking

PAIRED = 3  # charts of two signals
LABEL = 60  # letters of a source or an answer
Kept = NDArray[np.bool_]


class Bar(NamedTuple):
    """A kind of rows."""

    label: str
    chart: Markup
    told: str


class Figure(NamedTuple):
    """What stands in one frame."""

    name: str
    chart: Markup | None = None
    bars: Sequence[Bar] = ()
    about: str = ""  # above it
    below: str = ""


def distribution(columns: Columns, spread: Spread, kept: Kept | None, ranking: Ranking | None) -> Figure:
    """A signal's values, kept and dropped, with the cut where it was the one that ranked."""
    low, high = (float(value) for value in np.quantile(spread.ordered, [0.005, 0.995]))
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    values = columns.values(spread.name)
    usable = columns.ok & np.isfinite(values)
    parts = {"all": usable} if kept is None else {"kept": usable & kept, "dropped": usable & ~kept}
    told = ", ".join(f"{name} {np.median(values[part]):.4g}" for name, part in parts.items() if part.any())
    below = f"Median: {told}."
    if spread.undefined:
        below += f" Undefined for {spread.undefined:,} rows."
    at = ranking.cut(columns) if ranking is not None and ranking.name == spread.name else None
    if at is not None and ranking is not None and (at[0] < at[1] if ranking.high else at[0] > at[1]):
        below += " Between the dashed lines some pass and some do not: other things count too, such as a row's group."
    inside = np.clip(values, edges[0], edges[-1])
    nothing = np.zeros_like(usable)
    shown = (parts.get("kept", nothing), parts.get("dropped", usable))
    halves = [np.histogram(inside[part], edges)[0].astype(float) for part in shown]
    chart = svg.histogram(edges, halves[0], halves[1], _axis(spread), at)
    return Figure(spread.name, chart, about=f"Higher: {spread.higher_means}.", below=below)


def against(columns: Columns, spreads: Mapping[str, Spread], first: str, kept: Kept) -> list[Figure]:
    """A signal against some that measure something else, each drawn row a point."""
    entries = columns.run.settings["identity"]["signals"]
    kinds = {name: entries[name].get("signal", name) for name in columns.scalars}
    others = [name for name, kind in kinds.items() if kind not in (kinds[first], *LEFT_OUT)]
    places = columns.drawn(POINTS)
    found = []
    for name in others[:PAIRED]:
        points = np.stack([columns.values(one)[places] for one in (first, name)], 1)  # (n, 2)
        whole = np.isfinite(points).all(1)
        labels = (_axis(spreads[first]), _axis(spreads[name]))
        groups = divided(points[whole], kept[places[whole]])
        found.append(Figure(f"{name} against {first}", svg.scatter(groups, labels)))
    return found


def divided(points: Floats, kept: Kept) -> list[tuple[str, Floats]]:
    """Points (n, 2) in two groups, the kept ones on top."""
    return [("dropped", points[~kept]), ("kept", points[kept])]


def panels(columns: Columns, kept: Kept) -> list[Figure]:
    """Kept against dropped by source, answer and answer length."""
    found = []
    for title, column, nothing in (("By source", "source", "no source"), ("By answer", "answer_key", "long or none")):
        shares = columns.shares(column, kept)
        if [share.label for share in shares] == [None]:
            continue
        most = max(share.rows for share in shares)
        bars = [
            Bar(
                nothing if share.label is None else _shortened(share.label),
                svg.bar(share.kept, share.rows - share.kept, most),
                f"{share.kept:,} of {share.rows:,} ({share.kept / share.rows:.0%})",
            )
            for share in shares
        ]
        found.append(Figure(title, bars=bars))
    length = columns.values("answer_tokens")
    usable = columns.ok & np.isfinite(length)
    if usable.any():
        top = max(1.0, float(np.quantile(length[usable], 0.995)))
        edges = np.linspace(0.5, top + 0.5, min(BINS, int(top)) + 1)
        inside = np.clip(length, edges[0], edges[-1])
        halves = [np.histogram(inside[usable & part], edges)[0].astype(float) for part in (kept, ~kept)]
        found.append(Figure("By answer length", svg.histogram(edges, halves[0], halves[1], "tokens of the answer")))
    return found


def maps(points: Floats, places: Ints, shown: Mapping[str, Kept], marks: Sequence[svg.Mark]) -> list[Figure]:
    """The map of points (n, 2) of the rows at `places` (n,), once for each selection."""
    groups = {name: divided(points, kept[places]) for name, kept in shown.items()}
    return [Figure(name, svg.scatter(parts, ("map", name), False, marks)) for name, parts in groups.items()]


def _axis(spread: Spread) -> str:
    return spread.name if spread.unit in ("", "none") else f"{spread.name}, {spread.unit}"


def _shortened(word: str) -> str:
    return cut(word, LABEL)[0] + ("…" if len(word) > LABEL else "")
