"""What stands on the page. In: a run, selections, pool, model. Out: `Content`, whose fields the template reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vlmsift import __version__
from vlmsift.report import svg
from vlmsift.report.accounts import selection_account
from vlmsift.report.cards import Card, Deck, cut
from vlmsift.report.columns import BINS, POINTS, Columns, Floats, Spread
from vlmsift.report.examples import clusters, duplicates, faults, groups, ranking
from vlmsift.report.facts import what_was_run
from vlmsift.report.flat import flatten
from vlmsift.report.near import accounts_near
from vlmsift.tables import Account, Record

if TYPE_CHECKING:
    from vlmsift.choosing.selection import Selection
    from vlmsift.pools import Pool
    from vlmsift.report.cards import Eye
    from vlmsift.runs.run import Run

PAIRED = 3  # charts of two signals
LABEL = 60  # letters of a source or an answer


class Content:
    """The page's content; all that is costly is made once."""

    def __init__(
        self,
        run: Run,
        selections: Mapping[str, Selection],
        pool: Pool | None,
        absent: str,
        eye: Eye | None,
        seed: int,
        notes: Sequence[str],
    ) -> None:
        self.scored, self.chosen, self.seed = run, selections, seed
        self.columns = Columns(run, seed)
        self.spreads = {name: self.columns.spread(name) for name in self.columns.scalars}
        self.keeps = {name: self.columns.kept(one) for name, one in selections.items()}  # name -> (N,) bool
        self.deck = Deck(self.columns, self.spreads, selections, pool, absent, eye)
        self.eye, self.version = eye, __version__
        self._notes = [*notes, *([absent] if absent else [])]
        self._fill()

    @property
    def first(self) -> Selection | None:
        """The selection that the charts and samples are about."""
        return next(iter(self.chosen.values()), None)

    @cached_property
    def kept(self) -> NDArray[np.bool_]:
        """(N,) of the first selection; none without one."""
        return next(iter(self.keeps.values()), np.zeros(len(self.columns.index), np.bool_))

    def _fill(self) -> None:
        """Choose the samples of all sections, make their cards in one go, and hand them out."""
        chosen = groups(self.columns, self.first, self.kept)
        found = ((name, duplicates(self.columns, one, self.keeps[name])) for name, one in self.chosen.items())
        self.deduplicated, pairs = next(((name, pairs) for name, pairs in found if pairs), ("", []))
        mapped = self._mapped()
        places = [place for group in chosen for place in group.places]
        places += [place for pair in pairs for place in (pair.dropped, pair.kept)]
        places += [place for cluster in (mapped.found if mapped else []) for place in cluster.places]
        cards = self.deck.cards(places)
        self.groups = [
            SimpleNamespace(title=group.title, about=group.about, cards=[cards[place] for place in group.places])
            for group in chosen
        ]
        self.pairs = [
            SimpleNamespace(dropped=cards[pair.dropped], kept=cards[pair.kept], alike=pair.alike) for pair in pairs
        ]
        self.map = None if mapped is None else self._map(mapped, cards)
        self.looks = any(picture.heat for card in cards.values() for picture in card.pictures)
        self.masking = self.eye.masks if self.eye is not None and self.looks else ""
        self.notes = [*self._notes, *self.deck.told()]

    @property
    def name(self) -> str:
        """The run's folder; a folder called "run" says less than the one that holds it."""
        folder = self.scored.folder.resolve()
        return cut(folder.name if folder.name != "run" else f"{folder.parent.name}/{folder.name}", LABEL * 2)[0]

    @property
    def subtitle(self) -> str:
        identity, info = self.scored.settings["identity"], self.scored.settings["info"]
        parts = [identity.get("model", {}).get("name"), info.get("pool"), self.scored.settings.get("created", "")[:10]]
        return " · ".join(cut(str(part), LABEL * 3)[0] for part in parts if part)

    @property
    def numbers(self) -> list[Any]:
        """The figures under the title."""
        stored, ok = len(self.columns.index), int(self.columns.ok.sum())
        found = [("rows in the pool", f"{self.scored.pool_rows:,}", ""), ("scored", f"{ok:,}", "")]
        if stored < self.scored.pool_rows:
            found.append(("still to come", f"{self.scored.pool_rows - stored:,}", ""))
        found.append(("errors", f"{stored - ok:,}", ""))
        for name, kept in self.keeps.items():
            share = f"{kept.sum() / max(1, stored):.1%}"
            found.append(("kept" if len(self.keeps) == 1 else f"kept by {name}", f"{int(kept.sum()):,}", share))
        return [SimpleNamespace(label=label, value=value, rest=rest) for label, value, rest in found]

    @property
    def run(self) -> Account:
        return what_was_run(self.scored, self.eye.adapter.depth if self.eye else None)

    @property
    def near(self) -> Mapping[str, Account]:
        return accounts_near(self.scored.folder)

    @cached_property
    def ranked(self) -> str | None:
        """The signal that the selection ranked by."""
        known = ranking(self.first, self.columns)
        return None if known is None else known[0]

    @cached_property
    def cut(self) -> tuple[float, float] | None:
        """Lowest kept and highest dropped value of what ranked (or the other way round); None without a ranking."""
        known = ranking(self.first, self.columns)
        if self.first is None or known is None or self.first.made_by.get("by") != known[0]:
            return None
        if self.first.made_by.get("pick") not in ("highest", "lowest"):
            return None
        values, usable = self.columns.values(known[0]), self.columns.ok
        inside, outside = values[usable & self.kept], values[usable & ~self.kept]
        inside, outside = inside[np.isfinite(inside)], outside[np.isfinite(outside)]
        if not len(inside) or not len(outside):
            return None
        return (inside.min(), outside.max()) if known[1] else (inside.max(), outside.min())

    @cached_property
    def histograms(self) -> list[Any]:
        """A chart of each signal."""
        return [self._histogram(spread) for spread in self.spreads.values() if len(spread.ordered)]

    def _histogram(self, spread: Spread) -> Any:
        low, high = (float(value) for value in np.quantile(spread.ordered, [0.005, 0.995]))
        edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
        values = np.clip(self.columns.values(spread.name), edges[0], edges[-1])
        usable = self.columns.ok & np.isfinite(values)
        kept, dropped = (np.histogram(values[usable & part], edges)[0] for part in (self.kept, ~self.kept))
        unit = "" if spread.unit in ("", "none") else f", {spread.unit}"
        at = self.cut if spread.name == self.ranked else None
        parts = {"kept": self.kept, "dropped": ~self.kept} if self.first is not None else {"all": usable}
        raw = self.columns.values(spread.name)
        middles = [
            f"{name} {np.median(raw[usable & part]):.4g}" for name, part in parts.items() if (usable & part).any()
        ]
        below = f"Median: {', '.join(middles)}."
        if spread.undefined:
            below += f" Undefined for {spread.undefined:,} rows."
        if at is not None and (at[0] - at[1]) * (1 if ranking(self.first, self.columns)[1] else -1) < 0:  # type: ignore[index]
            below += " Between the dashed lines rows are kept and dropped: each group has a cut of its own."
        chart = svg.histogram(edges, kept.astype(float), dropped.astype(float), f"{spread.name}{unit}", at)
        return SimpleNamespace(name=spread.name, about=spread.higher_means, chart=chart, below=below)

    @property
    def scatters(self) -> list[Any]:
        """What ranked against other signals."""
        if self.ranked is None:
            return []
        places = self.columns.drawn(POINTS)
        entries = self.scored.settings["identity"]["signals"]
        kinds = {name: entries[name].get("signal", name) for name in self.columns.scalars}
        others = [name for name, kind in kinds.items() if kind not in (kinds[self.ranked], "random", "answer_tokens")]
        return [self._scatter(name, places) for name in others[:PAIRED]]

    def _scatter(self, name: str, places: NDArray[np.int64]) -> Any:
        assert self.ranked is not None
        points = np.stack([self.columns.values(self.ranked)[places], self.columns.values(name)[places]], 1)  # (n, 2)
        whole = np.isfinite(points).all(1)
        units = {one: spread.unit for one, spread in self.spreads.items()}
        labels = [one if units[one] in ("", "none") else f"{one}, {units[one]}" for one in (self.ranked, name)]
        chart = svg.scatter(self._split(points[whole], places[whole]), (labels[0], labels[1]))
        return SimpleNamespace(name=f"{name} against {self.ranked}", chart=chart)

    def _split(self, points: Floats, places: NDArray[np.int64], kept: NDArray[np.bool_] | None = None) -> Any:
        inside = (self.kept if kept is None else kept)[places]
        return [("dropped", points[~inside]), ("kept", points[inside])]

    @property
    def drawn(self) -> str:
        usable = int(self.columns.ok.sum())
        return f"{min(POINTS, usable):,} of {usable:,} rows, drawn by the seed; what lies beyond is on the border."

    @cached_property
    def selections(self) -> list[Any]:
        """Each selection's account and charts."""
        return [
            SimpleNamespace(name=name, account=selection_account(one), panels=self._panels(self.keeps[name]))
            for name, one in self.chosen.items()
        ]

    def _panels(self, kept: NDArray[np.bool_]) -> list[Any]:
        found = []
        for title, column in (("By source", "source"), ("By answer", "answer_key")):
            shares = self.columns.shares(column, kept)
            if [share.label for share in shares] == [None]:
                continue
            most = max(share.rows for share in shares)
            bars = [
                SimpleNamespace(
                    label=_label(share.label, column),
                    chart=svg.bar(share.kept, share.rows - share.kept, most),
                    told=f"{share.kept:,} of {share.rows:,} ({share.kept / share.rows:.0%})",
                )
                for share in shares
            ]
            found.append(SimpleNamespace(name=title, chart=None, bars=bars))
        length = self.columns.values("answer_tokens")
        usable = self.columns.ok & np.isfinite(length)
        if usable.any():
            top = float(np.quantile(length[usable], 0.995))
            edges = np.linspace(0.5, max(top, 1) + 0.5, min(BINS, int(max(top, 1))) + 1)
            values = np.clip(length, edges[0], edges[-1])
            parts = [np.histogram(values[usable & part], edges)[0].astype(float) for part in (kept, ~kept)]
            chart = svg.histogram(edges, parts[0], parts[1], "tokens of the answer")
            found.append(SimpleNamespace(name="By answer length", chart=chart))
        return found

    @property
    def overlap(self) -> list[Record]:
        """Rows that each pair of selections shares."""
        names = list(self.keeps)
        if len(names) < 2:
            return []
        return [
            {"kept by both": one, **{other: f"{int((self.keeps[one] & self.keeps[other]).sum()):,}" for other in names}}
            for one in names
        ]

    def _mapped(self) -> Any:
        found = self.columns.vectors()
        if found is None or len(found[1]) < 3:
            return None
        name, places, vectors = found
        points, how = flatten(vectors, self.seed)
        return SimpleNamespace(
            name=name,
            places=places,
            points=points,
            how=how,
            found=clusters(places, vectors, points, self.kept, self.seed),
        )

    def _map(self, mapped: Any, cards: Mapping[int, Card]) -> Any:
        usable = int(self.columns.ok.sum())
        about = f"{len(mapped.places):,} of {usable:,} rows, drawn by the seed, by {mapped.name}: {mapped.how}. "
        about += "Numbers stand in the middle of the clusters."
        marks = [(str(cluster.number), *cluster.centre) for cluster in mapped.found]
        shown = self.keeps or {"all rows": self.kept}
        charts = [
            SimpleNamespace(
                name=name,
                chart=svg.scatter(self._split(mapped.points, mapped.places, kept), ("map", name), False, marks),
            )
            for name, kept in shown.items()
        ]
        records = [self._cluster_record(cluster, cards) for cluster in mapped.found]
        told = "those nearest to its middle"
        found = [
            SimpleNamespace(
                number=cluster.number,
                told=f"{cluster.share:.0%} of the drawn rows, {self._kept_part(cluster.kept)}{told}",
                cards=[cards[place] for place in cluster.places],
            )
            for cluster in mapped.found
        ]
        return SimpleNamespace(about=about, charts=charts, records=records, clusters=found)

    def _kept_part(self, share: float) -> str:
        return "" if self.first is None else f"{share:.0%} of them kept; "

    def _cluster_record(self, cluster: Any, cards: Mapping[int, Card]) -> Record:
        record = {"cluster": str(cluster.number), "nearest to its middle": cards[cluster.places[0]].brief}
        share = {"share": f"{cluster.share:.0%}"}
        return record | share | ({} if self.first is None else {"kept": f"{cluster.kept:.0%}"})

    @property
    def faults(self) -> list[Record]:
        """Error rows by reason."""
        return [
            {
                "reason": cut(fault.kind, LABEL * 2)[0],
                "rows": f"{fault.rows:,}",
                "for example": "; ".join(cut(f"{name}: {detail}", LABEL * 3)[0] for name, detail in fault.examples),
            }
            for fault in faults(self.columns)
        ]


def _label(word: str | None, column: str) -> str:
    if word is None:
        return "no source" if column == "source" else "long or none"
    return cut(word, LABEL)[0] + ("…" if len(word) > LABEL else "")
