"""The comparison's figure. In: rows of the table. Out: a PNG, score against budget, a panel per origin and schedule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlmsift.experiment.plan import BAND_SEEDS, FULL, NONE, RANDOM
from vlmsift.experiment.table import Row
from vlmsift.files import write_atomically

COLOURS = [f"C{number}" for number in range(10) if number != 7]  # the random band is grey
STYLES = ("-", "-.", ":")
IN_COLUMN = 24  # entries of a legend in one column, beside the panel


def draw_figure(path: Path, rows: Sequence[Row]) -> Path | None:
    """Draw and write `path`; None where no row has both a score and a share of the pool.

    The random draw is a band: its mean and standard deviation, and paler its lowest and highest seed; with fewer than 5
    seeds it is a line. The full pool is a horizontal line, the other methods lines with standard deviations. The score
    is the mean accuracy, or the relative performance where a task's score is no share.
    """
    from matplotlib.figure import Figure

    panels: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if _score(row) is not None and row["share"] is not None:
            panels.setdefault((row["origin"], row["schedule"]), []).append(row)
    if not panels:
        return None
    most = max(len({(row["method"], row["augmentation"]) for row in own}) for own in panels.values())
    width = 6.5 + 2.4 * (1 + most // IN_COLUMN)  # inches: a panel, and columns of its legend
    figure = Figure(figsize=(width * len(panels), 4.8), layout="constrained")
    grid: Any = figure.subplots(1, len(panels), squeeze=False)
    for axes, ((origin, schedule), own) in zip(grid[0], panels.items(), strict=True):
        _panel(axes, own)
        axes.set(
            title=f"equal {schedule}" if origin == "trained" else f"{origin}, equal {schedule}",
            xlabel="share of the pool, %",
            ylabel="accuracy, mean over tasks" if own[0]["accuracy"] is not None else "% of the full pool's score",
        )
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=130, format="png"))
    return path


def _score(row: Row) -> Any:
    return row["relative"] if row["accuracy"] is None else row["accuracy"]


def _panel(axes: Any, rows: Sequence[Row]) -> None:
    lines: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        lines.setdefault((row["method"], row["augmentation"]), []).append(row)
    several = len({row["augmentation"] for row in rows}) > 1
    for place, ((method, augmentation), own) in enumerate(lines.items()):
        own = sorted(own, key=lambda row: float(row["share"]))
        label, colour = f"{method}, {augmentation}" if several else method, COLOURS[place % len(COLOURS)]
        style = STYLES[place // len(COLOURS) % len(STYLES)]
        shares, means = [100 * row["share"] for row in own], [_score(row) for row in own]
        spread = [row["relative_std" if row["accuracy"] is None else "accuracy_std"] for row in own]
        if method == FULL:
            axes.axhline(means[0], color=colour, linestyle="--", label=label)
        elif method == RANDOM and augmentation == NONE and all(row["seeds"] >= BAND_SEEDS for row in own):
            ends = [(row["random_low"], row["random_high"]) for row in own]
            within = [(mean - std, mean + std) for mean, std in zip(means, spread, strict=True)]
            for band, alpha, name in ((ends, 0.15, "lowest to highest"), (within, 0.3, "± 1 std")):
                low, high = zip(*band, strict=True)
                axes.fill_between(shares, low, high, color="grey", alpha=alpha, linewidth=0, label=f"random, {name}")
            axes.plot(shares, means, color="grey", marker=".", label="random, mean")
        else:
            how = {"color": colour, "linestyle": style, "marker": "o", "capsize": 3}
            axes.errorbar(shares, means, yerr=[std or 0.0 for std in spread], label=label, **how)  # one seed has none
    budgets = sorted({100 * row["share"] for row in rows if row["method"] != FULL})
    if budgets:
        axes.set_xscale("log")
        axes.set_xticks(budgets, [f"{share:g}" for share in budgets])
        axes.minorticks_off()
    columns = 1 + len(lines) // IN_COLUMN
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, ncols=columns)
