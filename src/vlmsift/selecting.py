"""What every selector has in common. In: a run, a selector, a budget. Out: a Selection that accounts for every row.

all rows -> ruled out (errors, `where`, undefined signals), each with its reason
         -> strata: with images | text-only with the signals | text-only without them
         -> the budget is split over the strata, and the selector chooses in each (uniformly in the last);
            without a budget (keep="clean"), each stratum keeps those that the selector finds good
"""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from vlmsift.choosing.budget import CLEAN, parse_keep
from vlmsift.choosing.candidates import Candidates, Cause, Selector, seeded_order
from vlmsift.choosing.decisions import Ledger
from vlmsift.choosing.quota import split
from vlmsift.choosing.run_columns import open_source
from vlmsift.choosing.selection import Decided, make_selection
from vlmsift.errors import UsageError
from vlmsift.runs.run import Run
from vlmsift.selectors.random import Random

TEXT_ONLY = ("same-rate", "keep", "drop")
PACKAGES = ("vlmsift", "numpy", "pyarrow", "scikit-learn")


def choose(
    run: Run | Any,
    selector: Selector,
    keep: str | int = "20%",
    *,
    where: str | None = None,
    text_only: str = "same-rate",
    seed: int = 0,
) -> Decided:
    """Let `selector` choose exactly `keep` samples of a finished run, or of a `pyarrow.Table`.

    Args:
        run: the run; or a table with `id`, the selector's columns, and any of `store.FIXED` (without them every row is
            "ok" and has an image).
        selector: ranks and chooses.
        keep: share of all rows, or a count (see `budget.parse_keep`); or "clean": no budget, each stratum keeps the
            `selector.survivors`.
        where: SQL condition that each kept row fulfils (see `store.matching`).
        text_only: rows without images are a stratum of their own: "same-rate" keeps the same share of them as of the
            others, "keep" all, "drop" none. Those for which the selector's signals are undefined are drawn uniformly;
            with keep="clean" and "same-rate" they all stay, as nothing speaks against them.
        seed: of ties, draws and clusters, 0 to 2**32 - 1. The pool's order plays no part.

    Raises:
        UsageError: an argument cannot be meant (keep="clean" with a selector that does not judge), or fewer rows than
            the budget can be chosen.
    """
    if text_only not in TEXT_ONLY:
        raise UsageError(f"text_only={text_only!r} is unknown. Give one of: {', '.join(TEXT_ONLY)}.")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise UsageError(f"seed={seed!r} is not a whole number from 0 to {2**32 - 1}.")
    if keep == CLEAN:
        selector.check_clean()
    source = open_source(run, selector.columns, getattr(selector, "vector", None))
    budget = None if keep == CLEAN else parse_keep(keep, len(source.table))
    order = seeded_order(source.table["id"], seed)
    rows = Candidates(source.table.take(order), "images", seed, order, source.vectors)

    ledger = Ledger(rows)
    failed = pc.not_equal(rows.table["status"], "ok").to_numpy()
    ledger.rule_out([Cause("error rows", failed, rows.table["reason"])], np.arange(len(rows)))
    if where is not None:
        missed = ~np.isin(rows.table["index"].to_numpy(), source.matching(where))
        ledger.rule_out([Cause(f"not ({where})", missed, f"not ({where})")], np.arange(len(rows)))
    strata = _strata(rows, selector, ledger, text_only)
    shares = _shares(budget, strata, ledger, text_only)

    told = []
    for (places, candidates, chooser), share in zip(strata, shares, strict=True):
        choice = chooser(candidates, share)
        if not len(np.unique(choice.kept)) == len(choice.kept) == share:
            raise RuntimeError(f"the selector {chooser.name!r} kept {len(choice.kept)} rows where {share} were due")
        ledger.settle(places, choice)
        known = {"stratum": candidates.stratum, "selector": chooser.name, "rows": len(places), "keeps": share}
        told.append({**known, **choice.details})
    made_by = {
        "selector": selector.name,
        **asdict(selector),
        "keep": keep,
        "budget": sum(shares),
        "rows": len(rows),
        "where": where,
        "text_only": text_only,
        "seed": seed,
        "ruled_out": ledger.ruled_out,
        "strata": told,
        "signals": source.digest,
        "versions": {name: version(name) for name in PACKAGES},
    }
    scalar = [name for name in selector.columns[:1] if name not in source.vectors]
    value = rows.number(scalar[0]) if scalar else np.full(len(rows), np.nan)
    return make_selection(ledger.decisions(value), made_by)


Stratum = tuple[NDArray[np.int64], Candidates, Selector]
"""Places among all rows, the rows themselves, and who chooses among them."""


def _strata(rows: Candidates, selector: Selector, ledger: Ledger, text_only: str) -> list[Stratum]:
    """The strata that are not empty, after all that rules rows out."""
    everywhere = np.arange(len(rows))
    text = rows.table["images"].to_numpy() == 0
    if text_only == "drop":
        ledger.rule_out([Cause("text-only", text, "text-only, and text_only='drop'")], everywhere)
    defined = {name: rows.defined(name, partly=selector.partly_defined) for name in selector.columns}
    causes = [Cause(f"{name} is undefined", ~known & ~text, f"{name} is undefined") for name, known in defined.items()]
    ledger.rule_out(causes, everywhere)
    ranked = np.logical_and.reduce([np.ones(len(rows), np.bool_), *defined.values()])
    places = np.flatnonzero(ledger.open & ranked)
    ledger.rule_out(selector.screen(rows.take(places, "ranked")), places)
    text &= not (selector.takes_text and text_only == "same-rate")
    strata: list[tuple[NDArray[np.bool_], str, Selector]] = [
        (ledger.open & ~text, "images", selector),
        (ledger.open & text & ranked, "text-only", selector),
        (ledger.open & text & ~ranked, "text-only", Random()),
    ]
    found = [(np.flatnonzero(mask), name, chooser) for mask, name, chooser in strata if mask.any()]
    return [(places, rows.take(places, name), chooser) for places, name, chooser in found]


def _shares(budget: int | None, strata: list[Stratum], ledger: Ledger, text_only: str) -> list[int]:
    """How many rows each stratum keeps: its part of the budget, or its survivors where that is None.

    Raises:
        UsageError: the budget cannot be spent, or no row is left to judge.
    """
    sizes = np.array([len(places) for places, _, _ in strata], np.int64)
    if sizes.sum() < (budget or 1):
        why = ", ".join(f"{count} {label}" for label, count in ledger.ruled_out.items())
        can = f"only {sizes.sum()} of {len(ledger.rows)} rows can be chosen ({why})"
        if budget is None:
            raise UsageError(f"keep={CLEAN!r} has nothing to choose from: {can}. Rule out fewer.")
        raise UsageError(f"the budget is {budget} rows, but {can}. Ask for at most {sizes.sum()}, or rule out fewer.")
    text = np.array([candidates.stratum == "text-only" for _, candidates, _ in strata])
    if budget is None:
        everyone = text & (text_only == "keep")
        judged = zip(strata, everyone.tolist(), strict=True)
        return [len(rows) if stays else chooser.survivors(rows) for (_, rows, chooser), stays in judged]
    if text_only != "keep":
        return [int(share) for share in split(budget, sizes, sizes)]
    kept = np.where(text, sizes, 0)
    if kept.sum() > budget:
        cure = "Raise the budget, or give text_only='same-rate'."
        raise UsageError(f"text_only='keep' keeps all {kept.sum()} text-only rows, but the budget is {budget}. {cure}")
    return [int(share) for share in kept + split(budget - int(kept.sum()), ~text * sizes, ~text * sizes)]
