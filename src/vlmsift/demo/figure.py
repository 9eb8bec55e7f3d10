"""The demo's figure. In: the scored pool. Out: one PNG with scores by kind, AUROC per signal, and the extremes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from vlmsift.files import replacing


def draw_figure(path: Path, pool: Path, table: Any, aurocs: dict[str, float], shares: dict[str, list[float]]) -> Path:
    """Draw and write `path`, atomically.

    Args:
        table: one row per sample with `id`, `kind` and `delta_attnmask`.
        aurocs: signal -> AUROC. shares: method -> share of clean samples, one per seed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 8), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[1.25, 1])
    above, below = halves
    scores, signals, methods = above.subplots(1, 3)
    kinds = [
        kind for kind in ("clean", "duplicate", "wrong_image", "wrong_answer", "blank_image") if kind in set(table.kind)
    ]
    low, high = np.nanpercentile(table.delta_attnmask, [1, 99])
    edges = np.linspace(low, high, 40)
    for kind in kinds:
        values = np.clip(table.delta_attnmask[table.kind == kind].dropna(), edges[0], edges[-1])
        scores.hist(values, bins=edges, histtype="step", density=True, label=kind.replace("_", " "))
    scores.set(title="Delta-AttnMask by kind", xlabel="rise of the answer's loss, nats")
    scores.set_yticks([])
    scores.legend(fontsize=8)
    names = sorted(aurocs, key=aurocs.__getitem__)
    signals.barh(names, [aurocs[name] for name in names], color="tab:blue")
    signals.axvline(0.5, color="grey", linestyle="--")
    signals.set(title="clean against spoiled", xlabel="AUROC (0.5 is chance)", xlim=(0.4, 1.0))
    ways = list(shares)[::-1]
    spread = [float(np.std(shares[way], ddof=1)) if len(shares[way]) > 1 else 0.0 for way in ways]
    methods.barh(ways, [float(np.mean(shares[way])) for way in ways], xerr=spread, color="tab:green")
    methods.axvline((table.kind == "clean").mean(), color="grey", linestyle="--")
    methods.set(title="clean samples among the kept 20 %", xlabel="share (dashed: whole pool)", xlim=(0, 1))
    _draw_extremes(below, pool, table)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    return path


def _draw_extremes(below: Any, pool: Path, table: Any) -> None:
    from PIL import Image

    rows = {row["id"]: row for row in json.loads((pool / "pool.json").read_text(encoding="utf-8"))}
    ordered = table.sort_values(["delta_attnmask", "id"], ascending=[False, True])
    below.suptitle("five best (above) and five worst (below)", fontsize=10)
    extremes = [*ordered.head(5).itertuples(), *ordered.tail(5).itertuples()]
    for axes, row in zip(below.subplots(2, 5).flat, extremes, strict=True):
        record = rows[row.id]
        question, answer = (turn["value"].replace("<image>\n", "") for turn in record["conversations"])
        with Image.open(pool / record["image"]) as image:
            axes.imshow(image, interpolation="nearest")
        axes.set_title(f"{row.delta_attnmask:+.2f} {row.kind.replace('_', ' ')}\n{question}\n{answer[:40]}", fontsize=7)
        axes.set_axis_off()
