"""The signal `calibrated`: which signals enter it, and what it is worth. In: figures. Out: weights, figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vlmsift.calibrate.grid import Candidate
from vlmsift.calibrate.verdict import Judged, judge
from vlmsift.plants.combine import Weights, fit
from vlmsift.plants.kinds import PLANTS
from vlmsift.plants.layout import Floats, Layout
from vlmsift.signals.calibrated import FLOOR

CHEAP = ("answer_loss", "image_attention", "image_entropy")  # what the first pass gives anyway
DEAR = "image_gain"  # costs a further forward, so it must earn its place ...
WORTH = 0.01  # ... by this much mean AUROC, cross-validated
LOGGED = ("answer_loss",)  # losses lie orders of magnitude apart, and a sum would see the largest only


@dataclass(frozen=True)
class Combined:
    """Weights with the word that builds each part."""

    weights: Weights
    words: tuple[str, ...]

    @property
    def log(self) -> tuple[bool, ...]:
        """Which parts enter by their logarithm."""
        return tuple(word in LOGGED for word in self.words)

    @property
    def named(self) -> dict[str, float]:
        """Word -> weight on the standardised value, the largest first."""
        pairs = zip(self.words, self.weights.weight.tolist(), strict=True)
        return dict(sorted(pairs, key=lambda pair: -abs(pair[1])))  # either sign


def combined(
    judged: Mapping[str, Judged], values: Mapping[str, Floats], layout: Layout, chosen: str, seed: int
) -> tuple[Combined | None, dict[str, Judged], list[str]]:
    """Fit the combination; its figures, cross-validated, as one more candidate; and what they say.

    The parts are `CHEAP` and the setting `chosen`, whose choice on the same plants flatters every figure a little;
    `DEAR` where it adds at least `WORTH`.
    """
    kinds = [kind for kind in layout.twins if PLANTS[kind].findable]
    by_word = {one.candidate.word: column for column, one in judged.items()}
    cheap = [by_word[name] for name in CHEAP if name in by_word]
    columns = [column for column in dict.fromkeys([*cheap, chosen]) if np.isfinite(values[column]).any()]
    best = _fitted(columns, judged, values, layout, kinds, seed) if kinds else None
    if best is None:
        return None, {}, ["The signal `calibrated` is left out: there are too few twins to cross-validate it."]
    weights, figures = best
    dear = by_word.get(DEAR)
    if dear is not None and dear not in columns and np.isfinite(values[dear]).any():
        wider = _fitted([*columns, dear], judged, values, layout, kinds, seed)
        if wider is not None and wider[1].mean.value - figures.mean.value >= WORTH:
            weights, figures = wider
    shown = {f"log({word})" if word in LOGGED else word: weight for word, weight in weights.named.items()}
    named = ", ".join(f"{word} {weight:+.2f}" for word, weight in shown.items())
    low, high = figures.mean.interval
    single = max(judged[column].mean.value for column in weights.weights.columns)
    said = [
        f"The signal `calibrated` ({named}; standardised) has a cross-validated mean AUROC of "
        f"{figures.mean.value:.3f} [{low:.3f}, {high:.3f}]; the best of its parts alone has {single:.3f}."
    ]
    if figures.mean.value <= single:
        said.append("So here the combination finds no more than that part alone.")
    return weights, {"calibrated": figures}, said


def _fitted(
    columns: list[str],
    judged: Mapping[str, Judged],
    values: Mapping[str, Floats],
    layout: Layout,
    kinds: list[str],
    seed: int,
) -> tuple[Combined, Judged] | None:
    parts = [judged[column].candidate for column in columns]
    inputs = [_input(part.word, values[part.column]) for part in parts]
    weights = fit(columns, np.stack(inputs, 1), layout, kinds, seed)  # P x (N,) to (N, P)
    if weights is None:
        return None
    cost = 1.0 + sum(part.forwards - 1 for part in parts)  # they share the first pass
    one = Candidate("calibrated", "calibrated", "combined", "highest", cost)
    figures = judge([one], {**values, "calibrated": weights.scores}, layout, seed)["calibrated"]
    return Combined(weights, tuple(part.word for part in parts)), figures


def _input(word: str, values: Floats) -> Floats:
    """A part's values as they enter the regression, which is as `signals.calibrated.Part` takes them."""
    return np.asarray(np.log(np.maximum(values, FLOOR))) if word in LOGGED else values
