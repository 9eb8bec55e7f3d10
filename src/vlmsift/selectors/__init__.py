"""Signals in, Selection out: no model, no torch. `SELECTORS` is the whole list; `select` is the usual way in.

A new selector is one short file with a frozen dataclass (see `candidates.Selector`) and one line in `SELECTORS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from vlmsift.choosing.budget import CLEAN
from vlmsift.choosing.candidates import Candidates, Cause, Choice, Selector
from vlmsift.choosing.selection import Decided, load, save
from vlmsift.errors import UsageError
from vlmsift.parameters import parse_fields
from vlmsift.runs.run import Run
from vlmsift.selecting import choose
from vlmsift.selectors.coincide import Coincide
from vlmsift.selectors.facility_location import FacilityLocation
from vlmsift.selectors.k_center import KCenter
from vlmsift.selectors.mixture import Mixture
from vlmsift.selectors.random import Random
from vlmsift.selectors.semdedup import SemDeDup
from vlmsift.selectors.top import Top
from vlmsift.selectors.trajectories import Trajectories

SELECTORS: Mapping[str, type[Selector]] = {
    "top": Top,
    "random": Random,
    "trajectories": Trajectories,
    "coincide": Coincide,
    "semdedup": SemDeDup,
    "mixture": Mixture,
    "facility_location": FacilityLocation,
    "k_center": KCenter,
}

__all__ = [
    "CLEAN",
    "SELECTORS",
    "Candidates",
    "Cause",
    "Choice",
    "Coincide",
    "Decided",
    "FacilityLocation",
    "KCenter",
    "Mixture",
    "Random",
    "Selector",
    "SemDeDup",
    "Top",
    "Trajectories",
    "build_selector",
    "choose",
    "load",
    "save",
    "select",
    "selector_word",
]


def build_selector(word: str) -> Selector:
    """The selector of a word: `NAME` or `NAME:field=value,field=value`, such as "coincide:temperature=0.2".

    Raises:
        UsageError: an unknown selector or field (the known ones are named), or a value that cannot be meant.
    """
    name, _, given = word.partition(":")
    if name not in SELECTORS:
        raise UsageError(f"there is no selector {name!r}; choose among {', '.join(SELECTORS)}")
    return SELECTORS[name](**parse_fields(SELECTORS[name], name, given))


def selector_word(selector: Selector) -> str:
    """The word that builds this selector of the table, with the fields that differ from their defaults.

    Raises:
        UsageError: no word does, as for a column that has a comma in its name.
    """
    given = {item.name: getattr(selector, item.name) for item in dataclasses.fields(selector)}
    plain = {item.name: item.default for item in dataclasses.fields(selector)}
    changed = ",".join(f"{name}={value}" for name, value in given.items() if value != plain[name])
    word = f"{selector.name}:{changed}" if changed else selector.name
    if build_selector(word) != selector:
        raise UsageError(f"no word builds {selector!r}; hand over the selector itself")
    return word


def select(
    run: Run | Any,
    by: str = "delta_attnmask",
    keep: str | int = "20%",
    pick: str = "highest",
    balance: str = "auto",
    *,
    where: str | None = None,
    text_only: str = "same-rate",
    seed: int = 0,
    low: float | str | None = None,
    high: float | str | None = None,
    clusters: int | None = None,
    vector: str = "hidden_mean",
    min_group: int = 10,
) -> Decided:
    """Keep the samples that rank best by one signal, balanced: `choose` with the selector `Top`.

    Each parameter is explained there: `by`, `pick`, `balance`, `low`, `high`, `clusters`, `vector` and `min_group` at
    `top.Top`; `keep`, `where`, `text_only`, `seed` and the errors at `frame.choose`.
    """
    selector = Top(by, pick, balance, low, high, clusters, vector, min_group)
    return choose(run, selector, keep, where=where, text_only=text_only, seed=seed)
