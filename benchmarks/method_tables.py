"""Tables on what methods agree on and find. In: what each keeps, what it ranks by, the truth. Out: Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, permutations
from typing import Any

import numpy as np
from method_runs import Chosen
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from vlmsift.demo.pool import SPOILED

Merits = Mapping[str, Mapping[str, float]]
Truth = Mapping[str, Mapping[str, Any]]
WORST = 0.2
"""Share of the pool that a ranking method would drop first."""


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [" | ".join(head), "|".join(["---"] * len(head)), *(" | ".join(row) for row in rows)]
    return "\n".join([f"| {lines[0]} |", f"|{lines[1]}|", *(f"| {line} |" for line in lines[2:])])


def spread(values: Sequence[float], places: int = 3) -> str:
    """Mean and standard deviation over seeds; the mean alone of one."""
    mean = f"{np.mean(values):.{places}f}"
    return mean if len(values) < 2 else f"{mean} +- {np.std(values, ddof=1):.{places}f}"


def _square(names: Sequence[str], cell: Any) -> str:
    """A table of every pair; columns by number, since names are long. `cell(one, other)` is its text."""
    head = ["", *(str(number) for number in range(1, len(names) + 1))]
    rows = [[f"{row + 1} {one}", *(cell(one, other) for other in names)] for row, one in enumerate(names)]
    return markdown(head, rows)


def spearman_table(merits: Merits) -> str:
    """Rank correlation of every two methods that rank by one number, over the samples where both are defined."""

    def cell(one: str, other: str) -> str:
        pairs = np.array([(value, merits[other][key]) for key, value in merits[one].items()])
        pairs = pairs[np.isfinite(pairs).all(axis=1)]
        return "" if one == other else f"{spearmanr(pairs[:, 0], pairs[:, 1]).statistic:.2f}"

    return _square(list(merits), cell)


def overlap_table(chosen: Chosen) -> str:
    """|A and B| / |A|, mean over pairs of different seeds, so that no two share a draw; on the diagonal a method
    against itself with another seed."""

    def cell(one: str, other: str) -> str:
        seeds = permutations(range(len(chosen[one])), 2)
        shares = [len(chosen[one][a] & chosen[other][b]) / len(chosen[one][a]) for a, b in seeds]
        return f"{np.mean(shares):.2f}"

    return _square(list(chosen), cell)


def plants_table(chosen: Chosen, merits: Merits, truth: Truth) -> str:
    """What each method keeps of every kind of sample, mean over seeds, and what a ranking one would drop first."""
    kinds = ("clean", *SPOILED)
    sizes = Counter(row["kind"] for row in truth.values())
    twins = [(name, row["of"]) for name, row in truth.items() if row["kind"] == "duplicate"]
    bad = {name for name, row in truth.items() if row["kind"] != "clean"}

    def row(method: str) -> list[str]:
        counts = [Counter(truth[name]["kind"] for name in kept) for kept in chosen[method]]
        shares = [np.mean([count[kind] / sizes[kind] for count in counts]) for kind in kinds]
        spoiled = np.mean([len(kept & bad) / len(kept) for kept in chosen[method]])
        both = np.mean([np.mean([one in kept and other in kept for one, other in twins]) for kept in chosen[method]])
        worst = ""
        if method in merits:
            ranked = sorted((value, name) for name, value in merits[method].items() if value == value)
            last = [name for _, name in ranked[: round(WORST * len(truth))]]
            worst = f"{len(bad.intersection(last)) / len(last):.2f}"
        return [method, f"{spoiled:.2f}", worst, *(f"{share:.2f}" for share in shares), f"{both:.2f}"]

    head = ["method", "spoiled among kept", f"spoiled among worst {WORST:.0%}"]
    head += [f"{kind.replace('_', ' ')} kept" for kind in kinds] + ["duplicate and original kept"]
    return markdown(head, [row(method) for method in chosen])


def auroc_table(merits: Merits, truth: Truth) -> str:
    """How often a clean sample ranks before a spoiled one, for each kind; 0.5 is chance."""

    def auroc(merit: Mapping[str, float], kinds: Sequence[str]) -> str:
        rows = [(truth[name]["kind"], value) for name, value in merit.items() if value == value]
        rows = [(kind, value) for kind, value in rows if kind in ("clean", *kinds)]
        clean = [kind == "clean" for kind, _ in rows]
        return f"{roc_auc_score(clean, [value for _, value in rows]):.3f}" if 0 < sum(clean) < len(clean) else ""

    columns = [[kind] for kind in SPOILED] + [list(SPOILED)]
    head = ["method", *(kind.replace("_", " ") for kind in SPOILED), "all"]
    return markdown(head, [[name, *(auroc(merit, kinds) for kinds in columns)] for name, merit in merits.items()])


def redundancy_table(chosen: Chosen, group_of: Mapping[str, str]) -> str:
    """How many originals are among the kept, and the share of pairs of near copies that are both kept."""
    groups: dict[str, list[str]] = {}
    for name, label in group_of.items():
        groups.setdefault(label, []).append(name)
    pairs = [pair for members in groups.values() for pair in combinations(members, 2)]

    def row(method: str) -> list[str]:
        originals = [float(len({group_of[name] for name in kept})) for kept in chosen[method]]
        both = [float(np.mean([one in kept and other in kept for one, other in pairs])) for kept in chosen[method]]
        return [method, spread(originals, 1), spread([count / len(groups) for count in originals]), spread(both)]

    head = ["method", f"originals of {len(groups):,} kept", "share of originals", "near pairs both kept"]
    return markdown(head, [row(method) for method in chosen])
