"""What stands on the page. In: a run, selections, pool, model. Out: `Content`, whose fields the template reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vlmsift import __version__
from vlmsift.folders import LocalFolder
from vlmsift.report.accounts import selection_account
from vlmsift.report.cards import Card, Deck, cut
from vlmsift.report.charts import LABEL, Figure, against, distribution, maps, panels
from vlmsift.report.columns import POINTS, Columns
from vlmsift.report.examples import clusters, duplicates, faults, groups
from vlmsift.report.facts import what_was_run
from vlmsift.report.flat import flatten
from vlmsift.report.near import accounts_near
from vlmsift.report.ranking import ranking
from vlmsift.tables import Account, Record

if TYPE_CHECKING:
    from vlmsift.choosing.selection import Selection
    from vlmsift.pools import Pool
    from vlmsift.report.cards import Eye
    from vlmsift.runs.run import Run


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

    @cached_property
    def main(self) -> str | None:
        """The selection that charts and samples are about: the first that cuts a signal, else the first."""
        ranked = {name: ranking(self.columns, one, self.keeps[name]) for name, one in self.chosen.items()}
        cutting = (name for name, known in ranked.items() if known is not None and known.passed is not None)
        return next(cutting, next(iter(self.chosen), None))

    @property
    def first(self) -> Selection | None:
        """The same itself."""
        return None if self.main is None else self.chosen[self.main]

    @cached_property
    def kept(self) -> NDArray[np.bool_]:
        """(N,) rows that it keeps; none without one."""
        return np.zeros(len(self.columns.index), np.bool_) if self.main is None else self.keeps[self.main]

    @property
    def _kept(self) -> NDArray[np.bool_] | None:
        return None if self.main is None else self.kept

    def _fill(self) -> None:
        """Choose the samples of all sections, make their cards in one go, and hand them out."""
        self.ranking = ranking(self.columns, self.first, self.kept)
        chosen = groups(self.columns, self.ranking, self._kept)
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
        *_, above, name = ("", *Path(self.scored.place).parts)
        return cut(name if name != "run" else f"{above}/{name}", LABEL * 2)[0]

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
        home = self.scored.home
        return accounts_near(home.path) if isinstance(home, LocalFolder) else {}

    @property
    def cut(self) -> bool:
        """Whether a cut is drawn."""
        return self.ranking is not None and self.ranking.cut(self.columns) is not None

    @cached_property
    def histograms(self) -> list[Figure]:
        """A chart of each signal."""
        spreads = [spread for spread in self.spreads.values() if len(spread.ordered)]
        return [distribution(self.columns, spread, self._kept, self.ranking) for spread in spreads]

    @property
    def scatters(self) -> list[Figure]:
        """What ranked against other signals."""
        return [] if self.ranking is None else against(self.columns, self.spreads, self.ranking.name, self.kept)

    @property
    def drawn(self) -> str:
        usable = int(self.columns.ok.sum())
        return f"{min(POINTS, usable):,} of {usable:,} rows, drawn by the seed; what lies beyond is on the border."

    @cached_property
    def selections(self) -> list[Any]:
        """Each selection's account and charts."""
        return [
            SimpleNamespace(name=name, account=selection_account(one), panels=panels(self.columns, self.keeps[name]))
            for name, one in self.chosen.items()
        ]

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
        charts = maps(mapped.points, mapped.places, self.keeps or {"all rows": self.kept}, marks)
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
