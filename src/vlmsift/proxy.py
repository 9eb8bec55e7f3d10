"""A target's signals told by a proxy. In: a small model's run, and a large one's on a share of its rows. Out: a run.

The rows that both measured teach trees to tell the target's number from all that the proxy measured. What they are
worth is told by rows that they have not seen: where that is too little, or less than the proxy's own number is worth,
the proxy's own number stands. Rows that the target measured keep what it measured. Source: ours; scikit-learn's
histogram gradient boosting on ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vlmsift.errors import RunMismatch
from vlmsift.runs.beginning import recorded
from vlmsift.runs.columns import FIXED, NOT_ASKED
from vlmsift.runs.query import as_vectors
from vlmsift.runs.run import Run

FOLDS = 5
FEWEST = 50  # rows that both measured, below which nothing is learnt
LEAST = 0.3  # rank agreement on unseen rows below which a prediction is not used; of `FEWEST`, chance alone reaches it
COMPONENTS = 8  # of each vector
MEASURED = "measured"  # column that tells whose number a row has
TREES: dict[str, Any] = {"max_iter": 100, "learning_rate": 0.05, "max_leaf_nodes": 8, "early_stopping": False}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Told:
    """How a column came to be."""

    rows: int  # that both measured
    agreement: float | None  # Spearman's, of the prediction with the target, on unseen rows; None where none was made
    own: float | None  # the same of the proxy's own number
    by: str  # "trees" or "proxy": whose number stands where the target measured nothing

    def sentence(self, column: str) -> str:
        """What a user is told."""
        if self.agreement is None:
            return f"{column}: {self.rows} rows that both measured are too few to learn from; the proxy's own ranking"
        told = f"rank agreement with the target {self.agreement:.2f} on unseen rows of {self.rows}"
        own = "undefined" if self.own is None else f"{self.own:.2f}"
        if self.by == "trees":
            return f"{column}: predicted; {told} (the proxy's own {column}: {own})"
        why = f"below {LEAST}" if self.agreement < LEAST else "no more than the proxy's own"
        return f"{column}: the proxy's own ranking (its agreement: {own}); of a prediction, the {told} is {why}"


def check_predicted(out: Path, overwrite: bool) -> None:
    """Raise RunMismatch where `out` holds a run that was not predicted, and is not to be thrown away."""
    known = {} if overwrite else recorded(out)
    if known and "predicted" not in known:
        cure = "Name another folder, or give --overwrite to throw it away"
        raise RunMismatch(f"{out} holds a run that one model measured, not one that a proxy and a share told. {cure}")


def predict(
    proxy: Run, target: Run, out: Path, columns: Sequence[str], vectors: Sequence[str], *, overwrite: bool = False
) -> Run:
    """A run of the proxy's rows in the folder `out`, with the target's numbers as far as they can be told. Resumes.

    A row that one of the two cannot measure is an error row.

    Args:
        proxy: finished, of all rows. target: of some of them (see `scoring.asked`).
        columns: numbers that both have, to be predicted. vectors: columns that are taken over from the proxy.

    Raises:
        RunMismatch: the runs are of different data, or `out` is another run.
    """
    own, theirs = (run.settings["identity"] for run in (proxy, target))
    if own["data"]["fingerprint"] != theirs["data"]["fingerprint"]:
        raise RunMismatch(f"{proxy.place} and {target.place} are of different data; score one pool by both")
    asked = target.table(["index", "status", "reason", *columns])
    asked = asked.filter(pc.not_equal(asked["status"], NOT_ASKED))
    features = _Features(proxy, asked["index"].to_numpy())
    fits = {name: _learn(features.shared, asked, name, features.of(features.shared)) for name in columns}
    signals = {
        name: {**(theirs if fit.told.by == "trees" else own)["signals"][name], "predicted": vars(fit.told)}
        for name, fit in fits.items()
    }
    signals |= {name: own["signals"][name] for name in vectors}
    meaning = {"unit": "none", "higher_means": "1: by the target itself"}
    signals[MEASURED] = {"signal": MEASURED, "parameters": {}, "width": 1, **meaning}
    identity = {
        "model": theirs["model"],
        **{name: own[name] for name in ("data", "rows", "part_size")},
        "predicted": {
            "by": {"trees": TREES, "components": COMPONENTS, "least": LEAST, "folds": FOLDS},
            "asked": theirs.get("asked"),
            "proxy": {"model": own["model"], "signals": proxy.signals_hash()},
            "target": {"signals": target.signals_hash()},
        },
        "signals": signals,
    }
    info = {**target.settings["info"], "proxy": proxy.place, "target": target.place}
    settings = {"identity": identity, "info": {**info, "cost": cost(proxy, target)}}
    made = Run.create_or_resume(out, settings, overwrite=overwrite)
    widths = {column.name: column.width for column in proxy.columns() if column.name in vectors}
    for part in sorted(proxy.finished_parts() - made.finished_parts()):
        made.write_part(part, _columns(proxy.part(part), asked, features, fits, widths))
    return made


def cost(proxy: Run, target: Run) -> dict[str, Any]:
    """What both took, and its ratio to scoring every row by the target: rows x forwards x parameters."""
    spent: dict[str, dict[str, Any]] = {}
    for name, run in (("proxy", proxy), ("target", target)):
        info, asked = run.settings["info"], run.settings["identity"].get("asked")
        rows = run.pool_rows if asked is None else asked["rows"]
        spent[name] = {"rows": rows, "forwards": info["forwards"], "parameters": info["parameters"]}
    whole = {**spent["target"], "rows": target.pool_rows}
    small, share, full = (one["rows"] * one["forwards"] * one["parameters"] for one in (*spent.values(), whole))
    return {**spent, "ratio": round((small + share) / full, 4)}


class _Features:
    """All that the proxy measured of a row, as numbers: the scalars, and the first components of each vector."""

    def __init__(self, proxy: Run, rows: NDArray[np.int64]) -> None:
        """`rows`: of the pool, ascending; their vectors, a draw from all, give the components."""
        from sklearn.decomposition import PCA

        size = proxy.part_size
        inside = {part: rows[rows // size == part] - part * size for part in np.unique(rows // size).tolist()}
        self.shared = pa.concat_tables([proxy.part(part).take(pa.array(places)) for part, places in inside.items()])
        self.numbers = [column.name for column in proxy.columns() if not column.is_list]
        self.components: dict[str, Any] = {}
        for name in (column.name for column in proxy.columns() if column.is_list):
            vectors = as_vectors(self.shared[name])
            vectors = vectors[np.isfinite(vectors).all(axis=1)]  # (n, K)
            if count := min(COMPONENTS, len(vectors) - 1, vectors.shape[1]):
                self.components[name] = PCA(count, svd_solver="full").fit(vectors.astype(np.float64))

    def of(self, table: Any) -> Floats:
        """(n, F) of the n rows of a part or of `shared`; NaN where undefined."""
        blocks = [_number(table, name)[:, None] for name in self.numbers]
        for name, components in self.components.items():
            vectors = as_vectors(table[name]).astype(np.float64)
            block, defined = np.full((len(table), components.n_components_), np.nan), np.isfinite(vectors).all(axis=1)
            if defined.any():
                block[defined] = components.transform(vectors[defined])
            blocks.append(block)
        return np.concatenate(blocks, axis=1)


@dataclass(frozen=True)
class _Fit:
    """How a column's numbers are made."""

    told: Told
    trees: Any  # None where the proxy's own number stands
    at: Floats  # predictions for unseen rows, ascending
    values: Floats  # the target's numbers, ascending

    def __call__(self, inputs: Floats) -> Floats:
        """(n,) numbers of rows with the features (n, F)."""
        found = self.trees.predict(inputs)
        # predictions crowd in the middle; each stands for the number of its own rank, so that both kinds can mix
        slope = np.ptp(self.values) / max(np.ptp(self.at), 1e-12)
        beyond = found - np.clip(found, self.at[0], self.at[-1])
        return np.asarray(np.interp(found, self.at, self.values) + slope * beyond)


def _learn(shared: Any, asked: Any, name: str, inputs: Floats) -> _Fit:
    """The fit of a column from the rows that were asked: what the proxy (`shared`) and the target has of them."""
    from scipy.stats import rankdata, spearmanr
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.model_selection import KFold

    wanted, own = _number(asked, name), _number(shared, name)
    both = np.isfinite(wanted) & np.isfinite(own)
    wanted, own, inputs, count = wanted[both], own[both], inputs[both], int(both.sum())
    if count < FEWEST or np.ptp(wanted) == 0:
        return _Fit(Told(count, None, None, "proxy"), None, own, wanted)
    ranks = (rankdata(wanted) - 0.5) / count  # (n,)
    unseen = np.empty(count)
    for seen, rest in KFold(FOLDS, shuffle=True, random_state=0).split(inputs):
        trees = HistGradientBoostingRegressor(**TREES, random_state=0).fit(inputs[seen], ranks[seen])
        unseen[rest] = trees.predict(inputs[rest])
    agreement = _rounded(spearmanr(unseen, wanted).statistic) or 0.0
    proxy = _rounded(spearmanr(own, wanted).statistic) if np.ptp(own) else None
    told = Told(count, agreement, proxy, "trees" if agreement >= max(LEAST, (proxy or 0.0)) else "proxy")
    if told.by == "proxy":
        return _Fit(told, None, own, wanted)
    trees = HistGradientBoostingRegressor(**TREES, random_state=0).fit(inputs, ranks)
    return _Fit(told, trees, np.sort(unseen), np.sort(wanted))


def _columns(
    part: Any, asked: Any, features: _Features, fits: Mapping[str, _Fit], vectors: Mapping[str, int]
) -> dict[str, Any]:
    """The columns of a part from the proxy's part, and the target's `asked` rows."""
    rows: dict[str, Any] = {one.name: part[one.name].to_numpy(zero_copy_only=False).copy() for one in FIXED}
    first, end = np.searchsorted(asked["index"].to_numpy(), [rows["index"][0], rows["index"][-1] + 1])
    theirs = asked.slice(first, end - first)
    places = theirs["index"].to_numpy() - rows["index"][0]  # of the asked rows in this part
    inputs, measured = features.of(part), np.zeros(len(part))
    for name, fit in fits.items():
        own = _number(part, name)
        rows[name] = own if fit.trees is None else np.where(np.isfinite(own), fit(inputs), np.nan)
        if fit.trees is not None:
            values = _number(theirs, name)
            rows[name][places] = np.where(np.isfinite(values), values, rows[name][places])
            measured[places] = np.isfinite(values)
    for place, status, reason in zip(places, theirs["status"].to_pylist(), theirs["reason"].to_pylist(), strict=True):
        if status != "ok" and rows["status"][place] == "ok":
            rows["status"][place], rows["reason"][place] = status, reason
    for name, width in vectors.items():
        rows[name] = np.broadcast_to(as_vectors(part[name]), (len(part), width)).copy()  # (n, 1) where all are null
    rows[MEASURED] = measured
    for name in (*fits, *vectors):
        rows[name][rows["status"] != "ok"] = np.nan
    return rows


def _number(table: Any, name: str) -> Floats:
    """(n,) of a scalar column; NaN where undefined."""
    return np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64)


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
