"""Find the layers where a pool falls in two, and drop the lower part: the selector of BYE."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from vlmsift.choosing.candidates import Candidates, Choice, Selector
from vlmsift.choosing.clusters import one_thread
from vlmsift.choosing.groups import Groups
from vlmsift.choosing.quota import best_of_groups
from vlmsift.choosing.words import either, joined, shown
from vlmsift.parameters import Positive

FITTED = 100_000  # rows that they are fitted on, at most
STARTS = 10  # of each fit, the likeliest kept; from one, as released, a layer may pass the gate by the seed alone


class Suspicion(NamedTuple):
    """Who is suspect, and by what."""

    suspect: NDArray[np.bool_]  # (N,)
    score: NDArray[np.float64]  # (N,), the mean over those sensitive layers that a row has; NaN where it has none
    details: dict[str, Any]  # for the record


@dataclass(frozen=True)
class Mixture(Selector):
    """Samples whose values fall in the lower of two Gaussians, at the layers where the pool is bimodal, go last.

    A layer with the means m1, m2 and deviations s1, s2 is sensitive where |m1 - m2| / sqrt(s1^2 + s2^2), its
    bimodality, reaches the threshold. The mean over those layers is split by two Gaussians again, and each sample of
    the one with the lower mean is a suspect. Without a sensitive layer, or with fewer than `fewest` rows, nobody is:
    two Gaussians always split a pool, so only the gate protects a clean one. A layer may be NaN for some samples (a
    sliding window that leaves the image out): it is fitted on the others, at least `fewest`, and a sample is judged by
    the sensitive layers it has; without one it is no suspect.

    The gate sees two hills where there are none: often in few rows, whatever their shape, and at any size in a flat
    histogram, a plateau, which mostly passes at 2. So look at the record (`bimodality`, `sensitive_layers`) before you
    trust it.

    The method removes; it does not fill a budget. So the samples that survive come first, in random order (a low
    entropy means a trigger, or a small thing to look at; above that it means nothing), and where the budget asks for
    more of them than there are, suspects of highest score fill it up (`refilled` in the record). Source: BYE
    (arXiv 2505.16916).

    Attributes:
        vector: the signal, (N, L): a value per layer, low where something is wrong.
        gate: "bsi", as in the paper; "released", the code's |m1 - m2| > threshold * (s1 + s2), which is stricter.
        threshold: of the gate, above 0.
        fewest: rows that a layer is fitted on, at least 2; ours. Of 60 normal draws of 12, 40, 100 and 200 rows, 48, 7,
            none and none pass the gate.
    """

    vector: str = "entropy_profile"
    gate: Literal["bsi", "released"] = "bsi"
    threshold: Positive = 2.0
    fewest: Annotated[int, msgspec.Meta(ge=2)] = 100
    name: ClassVar[str] = "mixture"
    partly_defined: ClassVar[bool] = True

    def check_clean(self) -> None:
        """Nothing is wrong with it: this is what the method is for."""

    def survivors(self, candidates: Candidates) -> int:
        """How many rows are not suspect."""
        return int(np.sum(~candidates.once(self.suspicion).suspect))

    def suspicion(self, candidates: Candidates) -> Suspicion:
        """Who is suspect, and by what. `details["bimodality"]` is None for a layer of too few numbers."""
        values = candidates.vector(self.vector)  # (N, L)
        suspect, score = np.zeros(len(values), np.bool_), np.full(len(values), np.nan)
        if len(values) < self.fewest:
            return Suspicion(suspect, score, {"sensitive_layers": [], "too_few_rows": True})
        found: list[float | None] = [None] * values.shape[1]
        sensitive = []
        for layer, column in enumerate(values.T):  # each (N,)
            finite = column[np.isfinite(column)]
            if len(finite) >= self.fewest:
                means, spreads, _ = two_gaussians(finite, candidates.seed)
                found[layer] = round(bimodality(means, spreads), 4)
                if self._splits(means, spreads):
                    sensitive.append(layer)
        known: dict[str, Any] = {"bimodality": found, "sensitive_layers": sensitive}
        if not sensitive:
            return Suspicion(suspect, score, known)
        picked = values[:, sensitive]  # (N, S)
        there = np.isfinite(picked)
        judged = there.any(axis=1)  # (N,)
        np.divide(picked.sum(axis=1, dtype=np.float64, where=there), there.sum(axis=1), out=score, where=judged)
        means, _, suspect[judged] = two_gaussians(score[judged], candidates.seed)
        return Suspicion(suspect, score, {**known, "means": [float(mean) for mean in means]})

    def __call__(self, candidates: Candidates, budget: int) -> Choice:
        suspect, score, known = candidates.once(self.suspicion)
        clean = int(np.sum(~suspect))
        found, codes = np.unique(suspect, return_inverse=True)
        quotas = np.array([max(0, budget - clean) if low else min(budget, clean) for low in found.tolist()])
        details = {**known, "suspects": int(suspect.sum()), "refilled": max(0, budget - clean)}
        groups = Groups(codes, ["suspect" if low else candidates.stratum for low in found.tolist()], details)
        # -1 for survivors, not 1 more for suspects: that would round small differences away
        badness = np.where(suspect, np.max(score, where=suspect, initial=-np.inf) - score, -1)
        choice = best_of_groups(badness, groups, quotas)
        if not suspect.any():
            return choice
        layers = f"{self.vector} over layers {', '.join(map(str, known['sensitive_layers']))}: "
        means = " is of the lower of two Gaussians, around {:.4g} and {:.4g}".format(*known["means"])
        told = joined(layers, shown(score.astype(np.float32)), means)
        return choice._replace(reasons=either(suspect, told, choice.reasons))

    def _splits(self, means: NDArray[np.float64], spreads: NDArray[np.float64]) -> bool:
        if self.gate == "released":
            return bool(means[1] - means[0] > self.threshold * spreads.sum())
        return bimodality(means, spreads) >= self.threshold


def bimodality(means: NDArray[np.float64], spreads: NDArray[np.float64]) -> float:
    """|m1 - m2| / sqrt(s1^2 + s2^2)."""
    return float(abs(means[1] - means[0]) / np.hypot(*spreads))


def two_gaussians(
    values: NDArray[np.floating[Any]], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Means (2,) ascending, standard deviations (2,), and (N,) True where a value is likelier of the lower one.

    Fits on the first `FITTED` of the values (N,), which come in random order, and keeps the likeliest of `STARTS` fits,
    which begin from k-means. Starts that are wilder find likelier fits, but those are a few outliers by themselves.
    """
    from sklearn.mixture import GaussianMixture

    column = values.astype(np.float64)[:, None]  # (N, 1)
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "fewer distinct points than clusters", "did not converge": the gate decides
        model = GaussianMixture(2, n_init=STARTS, random_state=seed).fit(column[:FITTED])
        low = int(np.argmin(model.means_[:, 0]))
        order = [low, 1 - low]
        return model.means_[order, 0], np.sqrt(model.covariances_[order, 0, 0]), model.predict(column) == low
