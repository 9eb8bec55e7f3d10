"""The demo's figure. In: the scored pool. Out: one PNG with scores by kind, AUROC per signal, and the extremes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vlmsift.files import write_atomically


class Extreme(NamedTuple):
    """One of the five best or the five worst samples."""

    delta: float  # nats
    kind: str
    question: str
    answer: str
    image: str  # in the pool's folder


def draw_figure(
    path: Path,
    pool: Path,
    table: Any,
    aurocs: dict[str, float],
    shares: dict[str, list[float]],
    extremes: Sequence[Extreme],
) -> Path:
    """Draw and write `path`, atomically.

    Args:
        table: one row per sample with `kind` and `delta_attnmask`. extremes: ten of them.
        aurocs: signal -> AUROC. shares: method -> share of clean samples, one per seed.
    """
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(13, 8), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[1.25, 1])
    above, below = halves
    scores, signals, methods = above.subplots(1, 3)
    low, high = np.nanpercentile(table.delta_attnmask, [1, 99])
    edges = np.linspace(low, high, 40)  # outliers go to the outer bins
    for kind in ("clean", "duplicate", "wrong_image", "wrong_answer", "blank_image"):
        if kind not in set(table.kind):
            continue
        values = np.clip(table.delta_attnmask[table.kind == kind].dropna(), low, high)
        scores.hist(values, bins=edges, histtype="step", density=True, label=kind.replace("_", " "))
    scores.set(title="Delta-AttnMask by kind", xlabel="rise of the answer's loss, nats")
    scores.set_yticks([])
    scores.legend(fontsize=8)
    names = sorted(aurocs, key=aurocs.__getitem__)
    signals.barh(names, [aurocs[name] for name in names], color="tab:blue")
    signals.axvline(0.5, color="grey", linestyle="--")
    signals.set(title="clean against spoiled", xlabel="AUROC (0.5 is chance)", xlim=(0.4, 1.0))
    ways = list(shares)[::-1]  # the first is drawn lowest
    spread = [float(np.std(shares[way], ddof=1)) if len(shares[way]) > 1 else 0.0 for way in ways]
    methods.barh(ways, [float(np.mean(shares[way])) for way in ways], xerr=spread, color="tab:green")
    methods.axvline((table.kind == "clean").mean(), color="grey", linestyle="--")
    methods.set(title="clean samples among the kept 20 %", xlabel="share (dashed: whole pool)", xlim=(0, 1))
    below.suptitle("five best (above) and five worst (below)", fontsize=10)
    for axes, one in zip(below.subplots(2, 5).flat, extremes, strict=True):
        with Image.open(pool / one.image) as image:
            axes.imshow(image, interpolation="nearest")
        axes.set_title(f"{one.delta:+.2f} {one.kind}\n{one.question}\n{one.answer[:40]}", fontsize=7)
        axes.set_axis_off()
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=110, format="png"))
    return path
