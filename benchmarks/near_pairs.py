"""NLVR's near-duplicate pairs: how many of them each method breaks up when it keeps half.

A pair is one example of NLVR in two of its six box orders: the same sentence and answer, the same boxes, another order
of them. The picture differs, so a search for equal files finds few. A third of the examples trains a small VLM from
scratch, which scores the rest; the two of a pair lie on one side.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from method_runs import Chosen, Scoring
from method_tables import markdown, spread
from real_data import PIXELS, SMALL, Row, make_base, split_rows, write_part

KEEP = "50%"


def compare_pairs(options: argparse.Namespace) -> None:
    """Print what the pairs are, and the share that each method removes."""
    source, folder = options.data / "nlvr", options.out.resolve() / "nlvr"
    parts = split_rows(source)
    groups = read_groups(source)
    # by group, so that the first rows of it, where fewer are asked for, hold pairs
    pool = sorted([*parts["pool"], *parts["test"]], key=lambda row: groups[row["id"]])[: options.rows]
    base = parts["base"][: options.rows]
    files = {
        name: write_part(folder / name, rows, source, PIXELS["nlvr"]) for name, rows in (("base", base), ("pool", pool))
    }
    model = make_base(folder, files["base"], PIXELS["nlvr"], options.base_epochs)
    recipe = {**SMALL, "learning_rate": 3e-4, "epochs": options.epochs}
    scoring = Scoring(files["pool"], model, folder, recipe, options.probes)
    pairs = pairs_of([row["id"] for row in pool], groups)
    print(f"\n### NLVR: near-duplicate pairs broken up when {KEEP} are kept\n")
    print(describe(pool, pairs, groups, source), end="\n\n", flush=True)
    print(pairs_table(scoring.choose_all(options.methods, KEEP, options.seeds), pairs))


def read_groups(source: Path) -> dict[str, str]:
    """Sample -> its example."""
    lines = map(json.loads, (source / "metadata.jsonl").read_text().splitlines())
    return {line["id"]: line["group"] for line in lines}


def pairs_of(names: Sequence[str], groups: Mapping[str, str]) -> list[tuple[str, str]]:
    """The samples of each group of two."""
    members: dict[str, list[str]] = {}
    for name in names:
        members.setdefault(groups[name], []).append(name)
    return [(found[0], found[1]) for found in members.values() if len(found) == 2]


def describe(rows: Sequence[Row], pairs: Sequence[Any], groups: Mapping[str, str], source: Path) -> str:
    """How many pairs there are, and how many pictures are equal, by the hash of their files."""
    digests = {row["id"]: hashlib.sha256((source / row["image"]).read_bytes()).hexdigest() for row in rows}
    where: dict[str, set[str]] = {}
    for name, digest in digests.items():
        where.setdefault(digest, set()).add(groups[name])
    equal = sum(digests[one] == digests[other] for one, other in pairs)
    across = sum(len(found) > 1 for found in where.values())
    said = len({row["conversations"][0]["value"] for row in rows})
    single = sum(count == 1 for count in Counter(groups[row["id"]] for row in rows).values())
    return (
        f"{len(rows):,} samples: {len(pairs):,} pairs and {single:,} single ones. In {equal} pairs both pictures are "
        f"the same file; {across} pictures occur in more than one group, which makes no pair here. The "
        f"{len(pairs) + single:,} groups share {said:,} sentences."
    )


def pairs_table(chosen: Chosen, pairs: Sequence[tuple[str, str]]) -> str:
    """Shares of pairs, mean and spread over seeds of choosing; the best is "one kept" everywhere."""

    def row(method: str) -> list[str]:
        counts = [Counter((one in kept) + (other in kept) for one, other in pairs) for kept in chosen[method]]
        shares = {number: [count[number] / len(pairs) for count in counts] for number in range(3)}
        removed = [1 - both for both in shares[2]]
        return [method, spread(removed), spread(shares[1]), spread(shares[0])]

    order = sorted(chosen, key=lambda name: (name != "random", name))
    return markdown(["method", "not both kept", "one kept", "none kept"], [row(name) for name in order])
