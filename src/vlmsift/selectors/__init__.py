"""Who chooses, and by what: signals in, the kept rows out; no model, no torch. `SELECTORS` is the whole list.

A new selector is one short file with a frozen dataclass (see `candidates.Selector`) and its place in `SELECTORS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from vlmsift.choosing.candidates import Candidates, Cause, Choice, Selector
from vlmsift.errors import UsageError
from vlmsift.parameters import parse_fields, write_word
from vlmsift.selectors.coincide import Coincide
from vlmsift.selectors.facility_location import FacilityLocation
from vlmsift.selectors.judge import Judge
from vlmsift.selectors.k_center import KCenter
from vlmsift.selectors.mixture import Mixture
from vlmsift.selectors.random import Random
from vlmsift.selectors.semdedup import SemDeDup
from vlmsift.selectors.then import Then
from vlmsift.selectors.top import Top
from vlmsift.selectors.trajectories import Trajectories

SELECTORS: Mapping[str, type[Selector]] = {
    selector.name: selector
    for selector in (Top, Random, Trajectories, Coincide, SemDeDup, Mixture, FacilityLocation, KCenter, Judge)
}

__all__ = ["SELECTORS", "Candidates", "Cause", "Choice", "Selector", "build_selector", "selector_word"]
__all__ += ["Coincide", "FacilityLocation", "Judge", "KCenter", "Mixture", "Random", "SemDeDup", "Then", "Top"]
__all__ += ["Trajectories"]

THEN = " then "
"""Between two words: the first judges, the second chooses from what stays."""


def build_selector(word: str) -> Selector:
    """The selector of a word: `NAME` or `NAME:field=value,field=value`, such as "coincide:temperature=0.2".

    Two of them may stand in a row: "judge:drop=0.3 then facility_location".

    Raises UsageError for an unknown selector or field (the known ones are named), or a value that cannot be meant.
    """
    first, then, second = word.partition(THEN)
    if then:
        return Then(build_selector(first.strip()), build_selector(second.strip()))
    name, _, fields = word.partition(":")
    if name not in SELECTORS:
        raise UsageError(f"there is no selector {name!r}; choose among {', '.join(SELECTORS)}")
    return SELECTORS[name](**parse_fields(SELECTORS[name], name, fields))


def selector_word(selector: Selector) -> str:
    """The word that builds this selector of the table, with the fields that differ from their defaults.

    Raises UsageError where no word does, as for a column that has a comma in its name.
    """
    if isinstance(selector, Then):
        return f"{selector_word(selector.first)}{THEN}{selector_word(selector.second)}"
    if SELECTORS.get(selector.name) is type(selector):
        word = write_word(selector.name, selector, type(selector)())
        with suppress(UsageError):
            if build_selector(word) == selector:
                return word
    raise UsageError(f"no word builds {selector!r}; hand over the selector itself")
