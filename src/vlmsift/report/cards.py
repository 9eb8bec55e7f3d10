"""Shown samples. In: rows of a run, its pool, maybe a model. Out: a `Card` each, with pictures, turns and fate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from vlmsift.errors import SampleError, VlmsiftError
from vlmsift.report.columns import Columns, Spread
from vlmsift.report.pictures import Picture, thumbnail, with_look
from vlmsift.types import IMAGE_MARK

if TYPE_CHECKING:
    from vlmsift.choosing.selection import Selection
    from vlmsift.models import Adapter
    from vlmsift.passes.masking import Masking
    from vlmsift.pools import Pool
    from vlmsift.types import Sample

PICTURES = 4  # of a sample, at most
TURNS = 6
LETTERS = 600  # of a turn
ID_LETTERS = 120
BRIEF = 80
ROOM = 9_000_000  # letters that all pictures may take


class Reading(NamedTuple):
    """A signal's value for one sample."""

    name: str
    value: float
    unit: str
    percentile: float


class Spoken(NamedTuple):
    """A turn, cut."""

    role: str
    text: str
    more: int  # letters that are left out


@dataclass(frozen=True)
class Card:
    """One shown sample."""

    place: int
    id: str
    source: str
    kept: bool | None  # by the first selection; None without one
    fates: Sequence[tuple[str, str]]  # name of a selection, what became of the sample there
    readings: Sequence[Reading]
    pictures: Sequence[Picture] = ()
    hidden: int = 0  # pictures that are not shown
    turns: Sequence[Spoken] = ()
    unsaid: int = 0  # turns that are not shown
    missing: str = ""  # why pictures and turns are not there
    attention: float | None = None  # share of the answer's attention that the pictures get, 0 to 1
    masked: tuple[int, int] | None = None  # image tokens masked, of how many

    @property
    def brief(self) -> str:
        """First question and answer in a line; the id where they are not known."""
        texts = [next((turn.text for turn in self.turns if turn.role == role), "") for role in ("user", "assistant")]
        words = [cut(text.replace(IMAGE_MARK, "").strip(), BRIEF)[0] for text in texts]
        return " → ".join(word for word in words if word) or self.id


def cut(text: str, most: int) -> tuple[str, int]:
    """The beginning of a text without control characters, and how many letters are left out."""
    shown = "".join(letter for letter in text[:most] if letter in "\n\t" or letter.isprintable() or letter in _JOINERS)
    return shown, max(0, len(text) - most)


_JOINERS = "\u200c\u200d\u00a0\u202f\u2009"  # letters of many scripts are joined by the first two


@dataclass
class Deck:
    """Makes cards."""

    columns: Columns
    spreads: Mapping[str, Spread]
    selections: Mapping[str, Selection]
    pool: Pool | None
    absent: str = ""  # why there is no pool
    eye: Eye | None = None
    unseen: list[str] = field(default_factory=list)  # why samples have no overlay
    spent: int = 0  # letters of the pictures so far
    fates: dict[str, dict[int, tuple[bool, str]]] = field(default_factory=dict)

    def cards(self, places: Iterable[int]) -> dict[int, Card]:
        """Place -> card, each made once."""
        rows = self.columns.rows(places)
        indices = [int(row["index"]) for row in rows.values()]
        self.fates = {name: fates(selection, indices) for name, selection in self.selections.items()}
        return {place: self._card(place, row) for place, row in rows.items()}

    def _card(self, place: int, row: Mapping[str, Any]) -> Card:
        index = int(row["index"])
        told = [(name, found[index]) for name, found in self.fates.items() if index in found]
        readings = [
            Reading(name, row[name], spread.unit, spread.percentile(row[name]))
            for name, spread in self.spreads.items()
            if row[name] is not None
        ]
        card = Card(
            place,
            cut(row["id"], ID_LETTERS)[0],
            cut(row["source"] or "", ID_LETTERS)[0],
            told[0][1][0] if told else None,
            [(name, cut(text, LETTERS)[0]) for name, (_, text) in told],
            readings,
            missing=self.absent,
        )
        if self.pool is None:
            return card
        try:
            sample = self.pool[index]
        except SampleError as error:
            return replace(card, missing=cut(str(error), LETTERS)[0])
        turns = [Spoken(turn.role, *cut(turn.text, LETTERS)) for turn in sample.turns[:TURNS]]
        return self._seen(replace(card, turns=turns, unsaid=max(0, len(sample.turns) - TURNS)), sample, self.pool)

    def _seen(self, card: Card, sample: Sample, pool: Pool) -> Card:
        """The card with pictures, and what the answer looks at."""
        from vlmsift.pools import open_image

        pictures, sizes = [], []
        for number, ref in enumerate(sample.images):
            try:
                image = open_image(ref, pool.image_root)
            except SampleError as error:
                pictures.append(Picture("", 0, 0, missing=cut(str(error), LETTERS)[0]))
                continue
            sizes.append(image.size)
            if number < PICTURES:
                pictures.append(thumbnail(image))
        hidden = max(0, len(sample.images) - PICTURES)
        card = replace(card, pictures=pictures[:PICTURES], hidden=hidden)
        if self.eye is not None and len(sizes) == len(sample.images) > 0:
            card = self._looked_at(card, self.eye, sample, sizes, pool)
        return replace(card, pictures=[self._paid(picture) for picture in card.pictures])

    def _looked_at(self, card: Card, eye: Eye, sample: Sample, sizes: list[tuple[int, int]], pool: Pool) -> Card:
        """The card with what the answer's attention lays over its pictures."""
        try:
            seen = eye.look(sample, sizes, pool)
        except Exception as error:  # models raise many kinds; a page is not worth less for one look
            kind = "" if isinstance(error, VlmsiftError) else f"{type(error).__name__}: "
            self.unseen.append(f"{kind}{error}")
            return card
        pictures = [with_look(picture, seen, number) for number, picture in enumerate(card.pictures)]
        if not any(picture.heat for picture in pictures):
            self.unseen.append(f"the image tokens of {eye.adapter.name} stand for no place of the picture")
        masked = (int(seen.masked.sum()), len(seen.masked)) if seen.masked.any() else None
        return replace(card, pictures=pictures, attention=float(seen.attention.sum()), masked=masked)

    def _paid(self, picture: Picture) -> Picture:
        """The picture, or a word in its place where the page is full."""
        letters = sum(
            len(part) for part in (picture.source, picture.heat, picture.outline, picture.outline, picture.coarse)
        )
        if self.spent + letters > ROOM:
            self.unseen.append("the page is full")
            return picture._replace(source="", heat="", outline="", coarse="", missing="left out: the page is full")
        self.spent += letters
        return picture

    def told(self) -> list[str]:
        """Why samples lack pictures, or what the model looks at; each reason once."""
        counted = Counter(self.unseen).most_common(3)
        return [
            f"No look is drawn for {count:,} samples or pictures: {cut(why, LETTERS)[0]}." for why, count in counted
        ]


class Eye:
    """The model that says where it looks, and the masking (of the signal `masks`) whose tokens are outlined."""

    def __init__(self, adapter: Adapter, masking: Masking | None, masks: str = "") -> None:
        from vlmsift.passes.places import ImagePlaces

        self.adapter, self.masking, self.masks, self.places = adapter, masking, masks, ImagePlaces(adapter)

    def look(self, sample: Sample, sizes: list[tuple[int, int]], pool: Pool) -> Any:
        """A `Look`. Raises SampleError where the sample cannot be encoded."""
        from vlmsift.passes.looks import look
        from vlmsift.pools import open_image

        encoder = self.adapter.encoder(partial(open_image, root=pool.image_root))
        return look(self.places, encoder, sample, sizes, self.masking)


def fates(selection: Selection, indices: Sequence[int]) -> dict[int, tuple[bool, str]]:
    """Row of the pool -> whether it is kept, and what became of it in words."""
    import pyarrow as pa
    import pyarrow.compute as pc

    decisions, kept = selection.decisions, selection.made_by.get("budget", 0)
    chosen = decisions.filter(pc.is_in(decisions["index"], value_set=pa.array(indices, pa.int64())))
    found = {}
    for row in chosen.select(["index", "kept", "rank", "group", "reason"]).to_pylist():
        group = f", in group {row['group']!r}" if row["group"] else ""
        text = f"kept, rank {row['rank']:,} of {kept:,}{group}" if row["kept"] else f"dropped: {row['reason']}"
        found[row["index"]] = (row["kept"], text)
    return found
