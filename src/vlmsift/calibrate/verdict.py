"""What a calibration says. In: values of a planted pool. Out: a table of figures, a recommendation, sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vlmsift.calibrate.figures import RESAMPLES, aurocs, interval, spearman
from vlmsift.calibrate.grid import Candidate
from vlmsift.plants.kinds import PLANTS
from vlmsift.plants.layout import Floats, Layout, resamples


@dataclass(frozen=True)
class Figure:
    """An AUROC with its bootstrap."""

    value: float
    replicates: Floats  # (R,) resampled, in the same draws for all signals, so that differences can be taken

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the 95 % interval."""
        return interval(self.replicates)

    def __sub__(self, other: Figure) -> Figure:
        return Figure(self.value - other.value, self.replicates - other.replicates)


@dataclass(frozen=True)
class Judged:
    """One candidate's figures. AUROC: chance that an original lies above a twin, in the signal's good direction."""

    candidate: Candidate
    kinds: Mapping[str, Figure]  # plant -> AUROC
    mean: Figure  # over the kinds that a per-sample signal can find
    length: float  # Spearman correlation, over originals, with the answer's tokens
    loss: float  # the same with the answer's loss
    defined: float  # share of usable rows


def judge(
    found: Sequence[Candidate], values: Mapping[str, Floats], layout: Layout, seed: int = 0, number: int = RESAMPLES
) -> dict[str, Judged]:
    """Column -> figures of every candidate.

    Args:
        values: column -> (N,) in the run's order, with `answer_tokens` and `answer_loss` among them.
        number: resamples of the bootstrap.
    """
    weights = resamples(int(layout.of.max()) + 1, number, seed)  # (R + 1, originals)
    judged = {}
    for one in found:
        raw = np.asarray(values[one.column], np.float64)  # (N,)
        upward = raw if one.good == "highest" else -raw
        kinds = {kind: Figure(float(row[0]), row[1:]) for kind, row in aurocs(upward, layout, weights).items()}
        pairs = (values["answer_tokens"], values["answer_loss"])
        length, loss = (spearman(raw[layout.originals], other[layout.originals]) for other in pairs)
        defined = float(np.isfinite(raw[layout.usable]).mean())
        judged[one.column] = Judged(one, kinds, mean_of(kinds), length, loss, defined)
    return judged


def mean_of(kinds: Mapping[str, Figure]) -> Figure:
    """Mean over the kinds that a per-sample signal can find; a copy is not among them."""
    used = [figure for kind, figure in kinds.items() if PLANTS[kind].findable]
    if not used:
        return Figure(float("nan"), np.full(RESAMPLES, np.nan))
    replicates = np.mean([one.replicates for one in used], axis=0)  # (kinds, R) to (R,)
    return Figure(float(np.mean([one.value for one in used])), replicates)


@dataclass(frozen=True)
class Verdict:
    """The recommended column (a Delta-AttnMask setting, or the best signal where the grid has none), and why."""

    column: str
    sentences: list[str] = field(default_factory=list)


def recommend(judged: Mapping[str, Judged], default: str | None) -> Verdict:
    """Choose a Delta-AttnMask setting by mean AUROC, and say what it is worth.

    The best setting replaces the shipped `default` (its column, if the grid has it) only where it leads by more than
    the best of as many would by `luck`: the largest of many figures is partly chosen for its errors.
    """
    known = {column: one for column, one in judged.items() if np.isfinite(one.mean.value)}
    settings = {column: one for column, one in known.items() if one.candidate.family == "delta"}
    if not settings:
        best = max(known or judged, key=lambda column: np.nan_to_num(judged[column].mean.value, nan=-1.0))
        return Verdict(best, ["No Delta-AttnMask setting could be judged; the best signal is recommended instead."])
    best = chosen = max(settings, key=lambda column: settings[column].mean.value)
    said = [f"Best Delta-AttnMask setting of {len(settings)}: {_told(judged[best])}."]
    if default == best:
        said.append("That is the shipped default.")
    elif default is not None and default in settings:
        gaps = [one.mean - judged[default].mean for name, one in settings.items() if name != default]
        lead, chance = judged[best].mean - judged[default].mean, luck(gaps)
        limit = chance * float(np.nanstd(lead.replicates))
        said.append(
            f"It leads the shipped default, {_told(judged[default])}, by {lead.value:.3f}; the best of {len(settings)} "
            f"settings would lead by up to {limit:.3f} by luck alone."
        )
        if not lead.value > limit:
            chosen = default
            said.append("That is no proof that it is better, so the shipped default is kept.")
    cost = f"{judged[chosen].candidate.forwards:.2f} text forwards per sample"
    said.append(f"By finding plants: {judged[chosen].candidate.word}, at {cost}.")
    return Verdict(chosen, [*said, *_held_against(judged, chosen)])


def luck(gaps: Sequence[Figure]) -> float:
    """The lead, in standard errors, that the best of these differences reaches by chance in one of twenty calibrations.

    The 95 % point, over the bootstrap, of the largest standardised error among them, so that settings that rise and
    fall together count as few. Source: the bootstrap max-t (Westfall and Young, 1993).
    """
    known = [gap for gap in gaps if np.isfinite(gap.value) and np.nanstd(gap.replicates) > 0]
    errors = [(gap.replicates - gap.value) / np.nanstd(gap.replicates) for gap in known]
    return float(np.nanpercentile(np.max(errors, axis=0), 95)) if errors else 0.0  # (gaps, R) to (R,) to one


def _held_against(judged: Mapping[str, Judged], chosen: str) -> list[str]:
    """Sentences on the recommended setting beside its random control, the loss, and the best of the other signals."""
    said = []
    control = judged[chosen].candidate.control
    if control in judged:
        better, text = _difference(judged[chosen], judged[control])
        said.append(f"It is {text} the same masking of random tokens ({judged[control].mean.value:.3f}).")
        if not better:
            said.append("So it is not shown here that attention tells better than chance which tokens to mask.")
    loss = judged["answer_loss"]
    better, text = _difference(judged[chosen], loss)
    said.append(f"It is {text} the plain answer loss ({loss.mean.value:.3f}).")
    signals = [one for one in judged.values() if one is not loss and one.candidate.family != "control"]
    if above := [one for one in signals if _difference(one, loss)[0]]:
        top = max(above, key=lambda one: one.mean.value)
        said.append(f"{len(above)} single signals beat the loss; the best of them is {_told(top)}.")
    else:
        said.append("No single signal beats the loss at finding plants here.")
    return [*said, "Finding bad samples is not teaching: only a training (--probe) tells which subset teaches more."]


def _told(one: Judged) -> str:
    low, high = one.mean.interval
    return f"{one.candidate.word} with a mean AUROC of {one.mean.value:.3f} [{low:.3f}, {high:.3f}]"


def _difference(one: Judged, other: Judged) -> tuple[bool, str]:
    """Whether one lies clearly above the other, and a phrase that ends before the other's name."""
    gap = one.mean - other.mean
    low, high = gap.interval
    numbers = f"by {gap.value:+.3f} [{low:+.3f}, {high:+.3f}]"
    if low > 0 or high < 0:
        return low > 0, f"{'above' if low > 0 else 'below'}, {numbers},"
    return False, f"not clearly apart, {numbers}, from"


def rows_of(judged: Mapping[str, Judged], probed: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """The table, best mean first: one plain record per candidate, with every figure.

    Args:
        probed: column -> what a probe measured there; its figures are null for the columns that were not probed.
    """
    ordered = sorted(judged.values(), key=lambda one: -np.nan_to_num(one.mean.value, nan=-1.0))
    nothing = dict.fromkeys(name for figures in probed.values() for name in figures)
    return [_record(one) | nothing | dict(probed.get(one.candidate.column, {})) for one in ordered]


def _record(one: Judged) -> dict[str, Any]:
    candidate = one.candidate
    record: dict[str, Any] = {
        "column": candidate.column,
        "signal": candidate.word,
        "family": candidate.family,
        "good_end": candidate.good,
        **dict.fromkeys(("depth", "ratio", "eligible", "rows")),
        **dict(candidate.setting),
        "forwards": candidate.forwards,
        "defined": one.defined,
        "spearman_answer_tokens": one.length,
        "spearman_answer_loss": one.loss,
    }
    for name, figure in {"mean": one.mean, **one.kinds}.items():
        low, high = figure.interval
        record |= {f"auroc_{name}": figure.value, f"low_{name}": low, f"high_{name}": high}
    return record
