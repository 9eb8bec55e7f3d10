"""Signals in, Selection out: no model, no torch. `SELECTORS` is the whole list; `select` is the usual way in.

A new selector is one short file with a frozen dataclass (see `candidates.Selector`) and one line in `SELECTORS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlmsift.selectors.candidates import Candidates, Cause, Choice, Selector
from vlmsift.selectors.coincide import Coincide
from vlmsift.selectors.facility_location import FacilityLocation
from vlmsift.selectors.frame import choose
from vlmsift.selectors.k_center import KCenter
from vlmsift.selectors.mixture import Mixture
from vlmsift.selectors.random import Random
from vlmsift.selectors.saved import Decided, load, save
from vlmsift.selectors.semdedup import SemDeDup
from vlmsift.selectors.top import Top
from vlmsift.selectors.trajectories import Trajectories
from vlmsift.store import Run

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
    "choose",
    "load",
    "save",
    "select",
]


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
