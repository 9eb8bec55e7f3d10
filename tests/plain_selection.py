"""A choice in plain Python, row by row: what `select` must give, written once more without arrays.

Knows `top` by highest, lowest or a band, with balance none, source or answer, and `random`; no vectors.
"""

from __future__ import annotations

import struct
from collections import Counter, defaultdict
from fractions import Fraction
from hashlib import blake2b
from typing import Any

from vlmsift.choosing.budget import parse_keep
from vlmsift.runs.run import Run
from vlmsift.selecting import select
from vlmsift.selectors import Random, Top, build_selector

Row = dict[str, Any]


def plain(
    rows: list[Row],
    selector: Any,
    keep: float | str,
    asked: set[int] | None = None,
    where: str = "",
    text_only: str = "same-rate",
    seed: int = 0,
) -> list[Row]:
    """The decisions as rows, in the order of `index`; `asked` holds the indices for which the condition holds."""
    by = selector.columns[0] if selector.columns else None
    budget = parse_keep(keep, len(rows))
    decisions = {
        row["index"]: {"id": row["id"], "index": row["index"], "kept": False, "rank": None, "group": None}
        | {"value": None if by is None else row[by], "reason": None}
        for row in sorted(rows, key=lambda row: row["index"])
    }
    strata: dict[str, list[Row]] = {"images": [], "text-only": [], "undefined": []}
    for row in sorted(rows, key=lambda row: _hash(row["id"], seed)):
        value, text = row[by] if by else 0.0, row["images"] == 0
        reason = None
        if row["status"] != "ok":
            reason = row["reason"]
        elif asked is not None and row["index"] not in asked:
            reason = f"not ({where})"
        elif text and text_only == "drop":
            reason = "text-only, and text_only='drop'"
        elif value is None and not text:
            reason = f"{by} is undefined"
        elif value is not None and isinstance(selector, Top) and selector.pick == "band":
            low, high = float(selector.low), float(selector.high)
            if not low <= value <= high:
                reason = f"{by} = {value:.6g} is outside the band {low:.6g} to {high:.6g}"
        decisions[row["index"]]["reason"] = reason
        if reason is None:
            strata["undefined" if value is None else "text-only" if text else "images"].append(row)
    filled = [(name, members) for name, members in strata.items() if members]
    rank = 0
    for (name, members), share in zip(filled, _shares(budget, filled, text_only), strict=True):
        plainly = name == "undefined" or isinstance(selector, Random)
        label = "text-only" if name == "undefined" else name
        for row, why, group in _chosen(members, share, None if plainly else selector, label, by):
            decision = decisions[row["index"]]
            decision |= {"group": group, "reason": why}
            if why is None:
                rank += 1
                decision |= {"kept": True, "rank": rank}
    return list(decisions.values())


def _hash(word: str, seed: int) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=8, salt=struct.pack("<Q", seed)).digest(), "little")


def _shares(budget: int, filled: list[tuple[str, list[Row]]], text_only: str) -> list[int]:
    sizes = [len(members) for _, members in filled]
    if text_only != "keep":
        return _split(budget, sizes)
    kept = [0 if name == "images" else size for (name, _), size in zip(filled, sizes, strict=True)]
    rest = _split(budget - sum(kept), [size - own for size, own in zip(sizes, kept, strict=True)])
    return [own + more for own, more in zip(kept, rest, strict=True)]


def _split(budget: int, sizes: list[int]) -> list[int]:
    """Largest remainders, ties to the earlier; nobody can be full before all are, as weights are the sizes."""
    total = sum(sizes)
    exact = [Fraction(budget * size, total) if total else Fraction(0) for size in sizes]
    whole = [int(one) for one in exact]
    able = [place for place, size in enumerate(sizes) if size > whole[place]]
    for place in sorted(able, key=lambda place: (whole[place] - exact[place], place))[: budget - sum(whole)]:
        whole[place] += 1
    return whole


def _chosen(members: list[Row], share: int, selector: Any, label: str, by: str | None) -> Any:
    """(row, reason or None where kept, group) of each member, the kept ones best first."""
    names = _groups(members, selector, label)
    badness = []
    for row in members:
        value = 0.0 if selector is None or selector.pick == "band" else row[by]
        badness.append(-value if selector is not None and selector.pick == "highest" else value)
    groups = defaultdict(list)
    for place, name in enumerate(names):
        groups[name].append(place)
    order = sorted(groups)
    quotas = dict(zip(order, _split(share, [len(groups[name]) for name in order]), strict=True))
    kept, dropped = [], []
    for name in order:
        for number, place in enumerate(sorted(groups[name], key=lambda place: badness[place])):
            if number < quotas[name]:
                kept.append(place)
            else:
                shown = name[1]
                told = f"rank {number + 1} of {len(groups[name])} in group {shown!r}, the group keeps {quotas[name]}"
                dropped.append((members[place], told, shown))
    kept.sort(key=lambda place: (badness[place], place))
    return [(members[place], None, names[place][1]) for place in kept] + dropped


def _groups(members: list[Row], selector: Any, label: str) -> list[tuple[Any, str]]:
    """(sort key, name) of each member's group."""
    balance = "none" if selector is None else selector.balance
    if balance == "none":
        return [((), label)] * len(members)
    last = "\U0010ffff"  # sorts behind every word
    if balance == "source":
        return [(row["source"] or last, row["source"] or "(no source)") for row in members]
    counts = Counter((row["source"], row["answer_key"]) for row in members)
    found: list[tuple[Any, str]] = []
    for row in members:
        source, answer = row["source"], row["answer_key"]
        if answer is None or counts[source, answer] < selector.min_group:
            answer = None
        title = "" if source is None else f"{source} / "
        found.append(((source or last, answer or last), title + (answer or "other answers")))
    return found


def compare(run: Run, word: str, keep: float | str) -> str:
    """Choose from a run in both ways; how many rows are the same, or AssertionError at the first that is not."""
    columns = ["index", "id", "source", "answer_key", "images", "status", "reason"]
    selector = build_selector(word)
    mine = select(run, selector, keep)
    theirs = plain(run.table([*columns, *selector.columns]).to_pylist(), selector, keep)
    at = 0
    for batch in mine.batches():
        for row in batch.to_pylist():
            assert row == theirs[at], (row, theirs[at])
            at += 1
    return f"{at:,} rows decided as by plain Python"
