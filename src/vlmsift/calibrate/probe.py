"""Which subset teaches more? In: the scored planted pool. Out: short trainings on the best 20 % by a few settings.

Finding bad samples and teaching well are two things. So the model is trained briefly on what each setting would keep,
from the same start and with the same seeds, and measured on samples that none of the trainings saw. It is an experiment
of a few cells; see `vlmsift.experiment`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np

from vlmsift.calibrate.verdict import Judged
from vlmsift.errors import UsageError
from vlmsift.experiment.cells import Bench, Cell, Subset, identify, read_cells, run_cells
from vlmsift.experiment.overlap import image_digests
from vlmsift.experiment.plan import NONE, Augmentation
from vlmsift.experiment.table import Key, Result, Row, build_rows
from vlmsift.parameters import Count, Parameters, Seed
from vlmsift.plants.layout import Ints, Layout
from vlmsift.plants.planted import Planted
from vlmsift.runs.run import Run
from vlmsift.specs import ModelSpec
from vlmsift.tables import Record, number, spread

if TYPE_CHECKING:
    from vlmsift.models import Adapter
    from vlmsift.train import Recipe

BRIEF: Mapping[str, Any] = {"epochs": 2.0, "batch_size": 16, "gradient_checkpointing": False}
"""Changes to the recipe: a few hundred samples would fill only a step or two of the usual batch."""
HELD_OUT = 0.25  # share of the originals that are held out where no test file is given


@dataclass(frozen=True)
class ProbePlan(Parameters):
    """What a probe is asked to do; making one refuses what cannot be meant, before anything is scored.

    Attributes:
        model: what every training starts from.
        test: a held-out clean data file; None = a quarter of the originals.
        columns: settings to try; None = the best Delta-AttnMask setting, the default, the loss and chance.
        seeds: trainings per setting, by `seed` and those after it. share: of the samples, for each to choose.
        recipe, changes: as for `train`; `changes` go over `BRIEF`.
    """

    model: Any
    test: Any = None
    columns: tuple[str, ...] | None = None
    seeds: Count = 3
    seed: Seed = 0
    share: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.2
    recipe: Any = "llava-1.5"
    changes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from vlmsift.pools import open_pool
        from vlmsift.train.job import check_setting

        super().__post_init__()
        if not isinstance(self.model, ModelSpec):
            raise UsageError("a probe trains copies of the model; give its folder or name, not an open model")
        check_setting(self.model, self.whole_recipe)
        if isinstance(self.test, (str, Path)):
            object.__setattr__(self, "test", open_pool(self.test))

    @property
    def whole_recipe(self) -> Recipe:
        """The recipe with all changes."""
        from vlmsift.train import recipe_of

        return recipe_of(self.recipe, {**BRIEF, **self.changes})

    def refuse_unmeasured(self, measured: Sequence[str]) -> None:
        """Raise UsageError where a setting is to be tried that is not among the `measured` columns."""
        for column in self.columns or ():
            if column not in measured:
                known = ", ".join(measured)
                raise UsageError(f"the probe is asked to try {column!r}, which is not measured; try {known}")


@dataclass(frozen=True)
class Probe:
    """What the trainings gave."""

    results: list[Result]  # every training, its `key.method` the setting's column
    rows: list[Row]  # the table of them, see `experiment.table`
    column: str | None  # the setting that taught most, chance aside; None where nothing was learnt
    sentences: list[str]  # what that says
    aurocs: dict[str, float]  # column -> mean AUROC, to be shown beside it

    @property
    def means(self) -> dict[str, dict[str, float]]:
        """What the table of a calibration shows of it."""
        known = (row for row in self.rows if row["accuracy"] is not None)
        return {row["method"]: {"probe_exact": row["accuracy"], "probe_loss": row["loss"]} for row in known}

    def records(self) -> list[Record]:
        """Both columns, finding and teaching, as text."""
        return [
            {
                "setting": row["method"],
                "mean AUROC": number(self.aurocs[row["method"]], 3, "nan"),
                "held-out exact": spread(row["accuracy"], row["accuracy_std"], 3),
                "held-out loss": number(row["loss"], 3),
                "trainings": str(row["seeds"]),
            }
            for row in sorted(self.rows, key=lambda row: -(row["accuracy"] or 0))
        ]


def run_probe(
    plan: ProbePlan,
    run: Run,
    planted: Planted,
    layout: Layout,
    judged: Mapping[str, Judged],
    adapter: Adapter,
    folder: Path,
    default: str | None = None,
) -> Probe:
    """Train on the best share by each setting and measure what was learnt; a finished training is not done again.

    The samples to choose from are the planted pool's own, originals and twins. Those of held-out originals, and those
    that show a held-out picture, are no part of it. Choosing is as in `select` by its defaults, balanced.

    Args:
        adapter: the plan's model, open. folder: for results; trained weights are removed.
        default: the column of the shipped default, or None.

    Raises:
        UsageError: too little is left to train on.
    """
    from vlmsift.pools import open_image
    from vlmsift.train.data import EncodedData

    sentences = []
    tested: Any = plan.test
    if tested is None:
        tested, (test_rows, rest) = planted, split_originals(layout, plan.seed)
        sentences.append(
            "The probe measures on held-out samples of the pool itself, as clean or as spoiled as the pool is; a clean "
            "test file (--probe-test) tells more."
        )
    else:
        test_rows, rest = np.arange(len(tested)), np.flatnonzero(layout.usable)
    seen = image_digests(tested, test_rows.tolist())  # a twin may show a held-out picture
    kept = np.array([row for row in rest.tolist() if not image_digests(planted, [row]) & seen], np.int64)
    budget = round(plan.share * len(kept))
    if budget < 2:
        raise UsageError(f"{len(kept)} samples are left to train the probe on, too few to take {plan.share:.0%} of")
    columns = plan.columns or arms(judged, default)
    subsets = {column: Subset(_chosen(run, judged[column], kept, budget, plan.seed)) for column in columns}

    def encoded(pool: Any, rows: Ints) -> EncodedData:
        return EncodedData.read(pool, adapter.encoder(partial(open_image, root=pool.image_root)), rows.tolist())

    data, test = encoded(planted, kept), encoded(tested, test_rows)
    made_from = identify(adapter, plan.model.dtype, data, test)
    bench = Bench(folder, plan.model, plan.whole_recipe, data, test, lambda cell: subsets[cell.method], made_from)
    arms_and_seeds = product(columns, range(plan.seed, plan.seed + plan.seeds))
    share, plain = f"{plan.share:.0%}", Augmentation(NONE)
    cells = [Cell(column, share, budget, "epochs", plain, seed) for column, seed in arms_and_seeds]
    run_cells(bench, cells)
    results, failed = [], []
    for cell, result, why in read_cells(bench, cells, len(kept)):
        if result is None:
            sentences.append(f"The training on {cell.method} with seed {cell.seed} failed and is not counted: {why}")
            failed.append(cell.key)
        else:
            results.append(result)
    return conclude(results, {column: judged[column].mean.value for column in columns}, sentences, failed)


def arms(judged: Mapping[str, Judged], default: str | None) -> list[str]:
    """The settings to try: the best Delta-AttnMask setting, the shipped default, the loss, and chance."""
    settings = {name: figures.mean.value for name, figures in judged.items() if figures.candidate.family == "delta"}
    known = {name: value for name, value in settings.items() if np.isfinite(value)}
    best = [max(known, key=known.__getitem__), *(name for name in known if name == default)] if known else []
    return list(dict.fromkeys([*best, "answer_loss", "random"]))


def split_originals(layout: Layout, seed: int) -> tuple[Ints, Ints]:
    """Rows held out (originals alone), and the rows of all other originals and their twins."""
    originals = np.flatnonzero(layout.originals)
    count = max(1, round(HELD_OUT * len(originals)))
    held_out = np.sort(np.random.default_rng(seed).permutation(originals)[:count])
    return held_out, np.flatnonzero(layout.usable & ~np.isin(layout.of, layout.of[held_out]))


def _chosen(run: Run, figures: Judged, rows: Ints, budget: int, seed: int) -> tuple[str, ...]:
    """Ids of the `budget` best of `rows` by a column's good end, balanced as `select` does by default."""
    from vlmsift.selecting import select

    where = f'"index" IN ({", ".join(map(str, rows.tolist()))})'
    word = f"top:by={figures.candidate.column},pick={figures.candidate.good}"
    return tuple(select(run, word, budget, where=where, seed=seed).ids)


def conclude(
    results: list[Result], aurocs: dict[str, float], sentences: Sequence[str] = (), failed: Sequence[Key] = ()
) -> Probe:
    """Means over seeds, the setting that taught most, and sentences; a training that diverged counts for nothing."""
    lines = list(sentences)
    rows, notes = build_rows(results, failed)
    lines += [f"A training is not counted: {note}." for note in notes]
    known = [row for row in rows if row["accuracy"] is not None]
    learnt = sorted(known, key=lambda row: (-row["accuracy"], row["loss"]))
    best = next((row for row in learnt if row["method"] != "random"), None)
    if best is None:
        lines.append("The probe cannot tell: every training failed or diverged.")
        return Probe(results, rows, None, lines, aurocs)
    lines.append(f"Probe: {best['method']} taught most ({best['accuracy']:.3f} exact), so it is recommended.")
    largest = max(row["accuracy_std"] or 0.0 for row in learnt)
    for row in learnt:
        if row is not best and best["accuracy"] - row["accuracy"] <= largest:
            name = "a random choice" if row["method"] == "random" else row["method"]
            lines.append(f"It is not told apart from {name} ({row['accuracy']:.3f}): seeds differ by {largest:.3f}.")
    return Probe(results, rows, best["method"], lines, aurocs)
