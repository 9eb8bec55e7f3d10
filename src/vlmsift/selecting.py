"""The one way to choose. In: a run, a selector, a budget. Out: a Selection that accounts for every row.

all rows -> ruled out (not asked, errors, `where`, undefined signals), each with its reason
         -> strata: with images | text-only with the signals | text-only without them
         -> the budget is split over the strata, and the selector chooses in each (uniformly in the last);
            without a budget (keep="clean"), each stratum keeps those that the selector finds good
"""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlmsift.choosing.answers import answers_moved
from vlmsift.choosing.budget import CLEAN, parse_keep
from vlmsift.choosing.candidates import Candidates, Cause, Places, Selector
from vlmsift.choosing.decisions import OWN, Decisions
from vlmsift.choosing.order import place_type, seeded_order
from vlmsift.choosing.quota import split
from vlmsift.choosing.run_columns import open_columns
from vlmsift.choosing.selection import Selection
from vlmsift.errors import UsageError
from vlmsift.parameters import Seed, check_value
from vlmsift.runs.columns import NOT_ASKED
from vlmsift.runs.run import Run
from vlmsift.runs.spoiled import read_spoiled
from vlmsift.selectors import Random, build_selector

TextOnly = Literal["same-rate", "keep", "drop"]
PACKAGES = ("vlmsift", "numpy", "pyarrow", "scikit-learn")


class Stratum(NamedTuple):
    """Rows that are chosen among themselves."""

    places: Places  # (n,) among all rows
    candidates: Candidates  # n
    selector: Selector  # who chooses


def select(
    run: Run | str | Path | Any,
    selector: Selector | str = "top",
    keep: float | str = "20%",
    *,
    where: str | None = None,
    text_only: str = "same-rate",
    seed: int = 0,
) -> Selection:
    """Let `selector` choose exactly `keep` samples of a finished run, or of a `pyarrow.Table`. Needs no model.

    Args:
        run: the run, or its folder; or a table with `id`, the selector's columns, and any of `runs.FIXED` (without them
            every row is "ok" and has an image).
        selector: ranks and chooses: `Top(by="answer_loss", pick="lowest")`, another of `vlmsift.selectors`, or its word
            such as "top:by=answer_loss,pick=lowest". The default is the highest delta_attnmask, balanced.
        keep: a share of all rows such as 0.2 or "20%", or a count (see `budget.parse_keep`); or "clean": no budget,
            each stratum keeps the `selector.survivors`.
        where: SQL condition that each kept row fulfils (see `query.matching`).
        text_only: rows without images are a stratum of their own: "same-rate" keeps the same share of them as of the
            others, "keep" all, "drop" none. Those for which the selector's signals are undefined are drawn uniformly;
            with keep="clean" and "same-rate" they all stay, as nothing speaks against them.
        seed: of ties, draws and clusters, 0 to 2**32 - 1. The pool's order plays no part.

    Raises:
        UsageError: an argument cannot be meant (keep="clean" with a selector that does not judge), the run is not
            finished, or fewer rows than the budget can be chosen.
    """
    text_only = check_value("select", "text_only", text_only, TextOnly)
    seed = check_value("select", "seed", seed, Seed)
    selector = build_selector(selector) if isinstance(selector, str) else selector
    if keep == CLEAN:
        selector.check_clean()
    run = Run.open(run) if isinstance(run, (str, Path)) else run
    columns = open_columns(run, selector.reads, getattr(selector, "vector", None))
    budget = None if keep == CLEAN else parse_keep(keep, len(columns))
    # random, yet the same however the pool was mixed: who breaks ties by the order of rows breaks them fairly
    order = seeded_order(columns, seed)  # (N,)
    told = read_spoiled(run.place) if isinstance(run, Run) else None
    spoiled = told.share if told is not None else None
    rows = Candidates(columns, "images", seed, order, spoiled)

    decisions = Decisions(rows, next((name for name in selector.columns[:1] if name not in columns.vectors), None))
    decisions.rule_out([Cause(NOT_ASKED, columns.not_asked[order], OWN)])
    decisions.rule_out([Cause("error rows", columns.failed[order], OWN)])
    if where is not None:
        missed = ~columns.matching(where)[order]
        decisions.rule_out([Cause(f"not ({where})", missed, f"not ({where})")])
    strata = _strata(rows, selector, decisions, text_only)
    shares = _shares(budget, strata, decisions, text_only)
    records, kept = _choose(strata, shares, decisions)
    del strata  # of millions of rows it takes memory, which what follows needs
    made_by = {
        "selector": selector.name,
        **asdict(selector),
        "keep": keep,
        "budget": sum(shares),
        "rows": len(rows),
        "where": where,
        "text_only": text_only,
        "seed": seed,
        "ruled_out": decisions.ruled_out,
        "strata": records,
        "signals": run.signals_hash() if isinstance(run, Run) else None,
        "spoiled": spoiled,
        "answers_moved": answers_moved(rows, kept),
        "versions": {name: version(name) for name in PACKAGES},
    }
    return Selection(decisions, made_by, run if isinstance(run, Run) else None)


def _strata(rows: Candidates, selector: Selector, decisions: Decisions, text_only: str) -> list[Stratum]:
    """The strata that are not empty, after all that rules rows out."""
    text = rows.text_only  # (N,)
    if text_only == "drop":
        decisions.rule_out([Cause("text-only", text, "text-only, and text_only='drop'")])
    defined = {name: rows.defined(name, partly=selector.partly_defined) for name in selector.columns}
    causes = [Cause(f"{name} is undefined", ~there & ~text, f"{name} is undefined") for name, there in defined.items()]
    decisions.rule_out(causes)
    ranked = np.logical_and.reduce([np.ones(len(rows), np.bool_), *defined.values()])
    places = np.flatnonzero(decisions.open & ranked)
    decisions.rule_out(selector.screen(rows.take(places, "ranked")), places)
    text &= not (selector.takes_text and text_only == "same-rate")
    strata: list[tuple[NDArray[np.bool_], str, Selector]] = [
        (decisions.open & ~text, "images", selector),
        (decisions.open & text & ranked, "text-only", selector),
        (decisions.open & text & ~ranked, "text-only", Random()),  # nothing tells them apart
    ]
    kind = place_type(len(rows))
    filled = [(np.flatnonzero(mask).astype(kind), name, chooser) for mask, name, chooser in strata if mask.any()]
    return [Stratum(places, rows.take(places, name), chooser) for places, name, chooser in filled]


def _shares(budget: int | None, strata: list[Stratum], decisions: Decisions, text_only: str) -> list[int]:
    """How many rows each stratum keeps: its part of the budget, or its survivors where that is None.

    Raises UsageError where the budget cannot be spent, or no row is left to judge.
    """
    sizes = np.array([len(places) for places, _, _ in strata], np.int64)  # (strata,)
    if sizes.sum() < (budget or 1):
        why = ", ".join(f"{count} {label}" for label, count in decisions.ruled_out.items())
        can = f"only {sizes.sum()} of {len(decisions.rows)} rows can be chosen ({why})"
        if budget is None:
            raise UsageError(f"keep={CLEAN!r} has nothing to choose from: {can}. Rule out fewer.")
        raise UsageError(f"the budget is {budget} rows, but {can}. Ask for at most {sizes.sum()}, or rule out fewer.")
    text = np.array([candidates.stratum == "text-only" for _, candidates, _ in strata])
    if budget is None:
        everyone = text & (text_only == "keep")  # (strata,)
        judged = zip(strata, everyone.tolist(), strict=True)
        return [len(rows) if stay else chooser.survivors(rows) for (_, rows, chooser), stay in judged]
    if text_only != "keep":
        return [int(share) for share in split(budget, sizes, sizes)]
    kept = np.where(text, sizes, 0)
    if kept.sum() > budget:
        cure = "Raise the budget, or give text_only='same-rate'."
        raise UsageError(f"text_only='keep' keeps all {kept.sum()} text-only rows, but the budget is {budget}. {cure}")
    return [int(share) for share in kept + split(budget - int(kept.sum()), ~text * sizes, ~text * sizes)]


def _choose(
    strata: list[Stratum], shares: list[int], decisions: Decisions
) -> tuple[list[dict[str, Any]], NDArray[np.bool_]]:
    """Let each stratum's selector choose its share, and enter it. Returns the records, and (N,) who is kept."""
    records, kept = [], np.zeros(len(decisions), np.bool_)  # (N,), in the candidates' order
    for (places, candidates, chooser), share in zip(strata, shares, strict=True):
        choice = chooser(candidates, share)
        if not len(np.unique(choice.kept)) == len(choice.kept) == share:
            raise RuntimeError(f"the selector {chooser.name!r} kept {len(choice.kept)} rows where {share} were due")
        decisions.settle(places, choice)
        kept[places[choice.kept]] = True
        facts = {"stratum": candidates.stratum, "selector": chooser.name, "rows": len(places), "keeps": share}
        records.append({**facts, **choice.details})
    return records, kept
