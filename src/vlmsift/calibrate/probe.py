"""Which subset teaches more? In: the scored planted pool. Out: short trainings on the best 20 % by a few settings.

Finding bad samples and teaching well are two things. So the model is trained briefly on what each setting would keep,
from the same start and with the same seeds, and measured on samples that none of the trainings saw.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlmsift.calibrate.figures import Ints, Layout
from vlmsift.calibrate.planted import Planted
from vlmsift.calibrate.verdict import Judged
from vlmsift.errors import SampleError, UsageError
from vlmsift.files import write_atomically
from vlmsift.runs.run import Run

if TYPE_CHECKING:
    from vlmsift.models import Adapter
    from vlmsift.pools import Pool
    from vlmsift.types import Sample

BRIEF: Mapping[str, Any] = {"epochs": 2.0, "batch_size": 16, "gradient_checkpointing": False}
"""Changes to the recipe: a few hundred samples would fill only a step or two of the usual batch."""
HELD_OUT = 0.25
"""Share of the originals that are held out where no test file is given."""


@dataclass(frozen=True)
class Cell:
    """One training. exact, loss: means over tasks, on the held-out samples; loss in nats."""

    column: str
    seed: int
    samples: int
    steps: int
    exact: float
    loss: float
    diverged: bool


@dataclass(frozen=True)
class Probe:
    """What the trainings gave.

    Attributes:
        cells: every training. results: column -> means over seeds, `probe_exact` and `probe_loss`.
        column: the setting that taught most, chance aside; None where all diverged. sentences: what that says.
        aurocs: column -> mean AUROC, to be shown beside it.
    """

    cells: list[Cell]
    results: dict[str, dict[str, float]]
    column: str | None
    sentences: list[str]
    aurocs: dict[str, float]

    def markdown(self) -> str:
        """Both columns, finding and teaching, as a Markdown table."""
        head = ("setting", "mean AUROC", "held-out exact", "held-out loss", "trainings")
        lines = [f"| {' | '.join(head)} |", "| --- | ---: | ---: | ---: | ---: |"]
        for column, figures in sorted(self.results.items(), key=lambda pair: -pair[1]["probe_exact"]):
            exact = [one.exact for one in self.cells if one.column == column and not one.diverged]
            spread = f" +- {np.std(exact, ddof=1):.3f}" if len(exact) > 1 else ""
            lines.append(
                f"| {column} | {self.aurocs[column]:.3f} | {figures['probe_exact']:.3f}{spread} | "
                f"{figures['probe_loss']:.3f} | {len(exact)} |"
            )
        return "\n".join(lines)


def run_probe(
    run: Run,
    planted: Planted,
    layout: Layout,
    judged: Mapping[str, Judged],
    adapter: Adapter,
    model: str | Path,
    folder: Path,
    *,
    test: str | Path | None = None,
    default: str | None = None,
    columns: Sequence[str] | None = None,
    seed: int = 0,
    seeds: int = 3,
    share: float = 0.2,
    recipe: Any = "llava-1.5",
    changes: Mapping[str, Any] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    train: Callable[..., Any] | None = None,
    evaluate: Callable[..., Any] | None = None,
) -> Probe:
    """Train on the best `share` by each setting and measure what was learnt; a finished training is not done again.

    The samples to choose from are the planted pool's own, originals and twins: a pool with known bad samples. Those of
    held-out originals, and those that show a held-out picture, are no part of it. Choosing is as in `select` by its
    defaults, balanced.

    Args:
        model: the folder or name that every training starts from. folder: for results; trained weights are removed.
        test: a held-out clean data file; None = a quarter of the originals.
        default: the column of the shipped default, or None.
        columns: settings to try; None = the best Delta-AttnMask setting, the default, the loss and chance.
        seeds: trainings per setting. recipe, changes: as for `train`; `changes` go over `BRIEF`.
        train, evaluate: stand-ins for `vlmsift.train.train` and `vlmsift.evaluate.evaluate`.

    Raises:
        UsageError: an argument cannot be meant, or too little is left to train on.
    """
    if not 0 < share < 1 or seeds < 1:
        raise UsageError(f"a probe with share={share} and seeds={seeds} cannot be; give 0 < share < 1 and seeds >= 1")
    from vlmsift.pools import open_image, open_pool
    from vlmsift.train.data import EncodedData

    if train is None or evaluate is None:
        from vlmsift.evaluate import evaluate as house_evaluate
        from vlmsift.train import train as house_train

        train, evaluate = train or house_train, evaluate or house_evaluate
    train, evaluate = (partial(call, device=device, dtype=dtype) for call in (train, evaluate))
    said = []
    tested: Any = planted
    if test is None:
        test_rows, rest = split_originals(layout, seed)
        said.append(
            "The probe measures on held-out samples of the pool itself, as clean or as spoiled as the pool is; a clean "
            "test file (--probe-test) tells more."
        )
    else:
        tested, rest = open_pool(test), np.flatnonzero(_usable(layout))
        test_rows = np.arange(len(tested))
    seen = {name for row in test_rows.tolist() for name in pictures(tested, row)}
    kept = np.array([row for row in rest.tolist() if not pictures(planted, row) & seen], np.int64)
    budget = round(share * len(kept))
    if budget < 2:
        raise UsageError(f"{len(kept)} samples are left to train the probe on, too few to take {share:.0%} of")

    def encoded(pool: Any, rows: Ints) -> EncodedData:
        return EncodedData.read(pool, adapter.encoder(partial(open_image, root=pool.image_root)), rows.tolist())

    data, test_data = encoded(planted, kept), encoded(tested, test_rows)
    how = {"recipe": recipe, **BRIEF, **(changes or {})}
    wanted = columns or arms(judged, default)
    cells = []
    for column in wanted:
        chosen = _chosen(run, judged, column, kept, budget, seed)
        usable = data.subset(chosen)
        for number in range(seed, seed + seeds):
            key = _key(column, number, chosen, test_data.ids, model, how)
            cells.append(_cell(folder, key, column, number, usable, test_data, model, how, train, evaluate))
    return conclude(cells, {column: judged[column].mean.value for column in wanted}, said)


def arms(judged: Mapping[str, Judged], default: str | None) -> list[str]:
    """The settings to try: the best Delta-AttnMask setting, the shipped default, the loss, and chance."""
    settings = {name: one.mean.value for name, one in judged.items() if one.candidate.family == "delta"}
    known = {name: value for name, value in settings.items() if np.isfinite(value)}
    best = [max(known, key=lambda name: known[name])] if known else []
    return list(dict.fromkeys([*best, *([default] if default in known and default else []), "answer_loss", "random"]))


def split_originals(layout: Layout, seed: int) -> tuple[Ints, Ints]:
    """Rows held out (originals alone), and the rows of all other originals and their twins."""
    originals = np.flatnonzero(layout.originals)
    drawn = np.random.default_rng(seed).permutation(originals)[: max(1, round(HELD_OUT * len(originals)))]
    held_out = np.sort(drawn)
    return held_out, np.flatnonzero(_usable(layout) & ~np.isin(layout.of, layout.of[held_out]))


def _usable(layout: Layout) -> Any:
    return layout.originals | np.logical_or.reduce(list(layout.twins.values()))


def pictures(pool: Pool | Planted, row: int) -> set[str]:
    """Hashes (hex) of a row's encoded images; none where it cannot be read."""
    try:
        sample: Sample = pool[row]
        files = [ref if isinstance(ref, bytes) else (pool.image_root / ref).read_bytes() for ref in sample.images]
    except (SampleError, OSError):
        return set()
    return {hashlib.sha256(file).hexdigest() for file in files}


def _chosen(run: Run, judged: Mapping[str, Judged], column: str, rows: Ints, budget: int, seed: int) -> list[str]:
    """Ids of the `budget` best of `rows` by a column's good end, balanced as `select` does by default."""
    from vlmsift.selecting import select

    if column not in judged:
        raise UsageError(f"the probe is asked to try {column!r}, which was not measured; try {', '.join(judged)}")
    where = f'"index" IN ({", ".join(map(str, rows.tolist()))})'
    word = f"top:by={column},pick={judged[column].candidate.good}"
    return list(select(run, word, budget, where=where, seed=seed).ids)


def _key(column: str, seed: int, ids: Sequence[str], test: Sequence[str], model: Any, how: Mapping[str, Any]) -> str:
    facts = [column, seed, list(ids), list(test), str(model), sorted((name, str(value)) for name, value in how.items())]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _cell(
    folder: Path,
    key: str,
    column: str,
    seed: int,
    data: Any,
    test: Any,
    model: str | Path,
    how: Mapping[str, Any],
    train: Callable[..., Any],
    evaluate: Callable[..., Any],
) -> Cell:
    """One training and its test, or what an earlier start wrote down of it."""
    path = folder / f"{column}-{seed}-{key}.json"
    if path.exists():
        return Cell(**json.loads(path.read_text(encoding="utf-8")))
    folder.mkdir(parents=True, exist_ok=True)
    trained = train(data, model, folder / key, seed=seed, **how)
    exact, loss = float("nan"), float("nan")
    if not trained.diverged:
        tasks = evaluate(trained.folder, test).values()
        exact, loss = (float(np.nanmean([getattr(task, name) for task in tasks])) for name in ("exact", "loss"))
    cell = Cell(column, seed, trained.samples, trained.steps, exact, loss, trained.diverged)
    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(asdict(cell)), encoding="utf-8"))
    shutil.rmtree(folder / key, ignore_errors=True)
    return cell


def conclude(cells: list[Cell], aurocs: dict[str, float], said: Sequence[str] = ()) -> Probe:
    """Means over seeds, the setting that taught most, and sentences; a training that diverged counts for nothing."""
    sentences, results = list(said), {}
    for column in aurocs:
        good = [one for one in cells if one.column == column and not one.diverged]
        failed = sum(one.column == column for one in cells) - len(good)
        if failed:
            sentences.append(f"{failed} trainings on {column} diverged and are not counted.")
        if good:
            exact, loss = np.mean([one.exact for one in good]), np.mean([one.loss for one in good])
            results[column] = {"probe_exact": float(exact), "probe_loss": float(loss)}
    order = sorted(results, key=lambda column: (-results[column]["probe_exact"], results[column]["probe_loss"]))
    ranked = [column for column in order if column != "random"]
    if not ranked:
        return Probe(cells, results, None, [*sentences, "The probe cannot tell: every training diverged."], aurocs)
    best = ranked[0]
    spread = _spread(cells)
    sentences.append(f"Probe: {best} taught most ({results[best]['probe_exact']:.3f} exact), so it is recommended.")
    for other in order:
        gap = results[best]["probe_exact"] - results[other]["probe_exact"]
        if other != best and gap <= spread:
            name = "a random choice" if other == "random" else other
            value = results[other]["probe_exact"]
            sentences.append(f"It is not told apart from {name} ({value:.3f}): seeds differ by {spread:.3f}.")
    return Probe(cells, results, best, sentences, aurocs)


def _spread(cells: Sequence[Cell]) -> float:
    """The largest standard deviation of exact match over the seeds of one setting; 0 with one seed each."""
    good = [one for one in cells if not one.diverged]
    groups = [[one.exact for one in good if one.column == name] for name in sorted({one.column for one in good})]
    return max((float(np.std(group, ddof=1)) for group in groups if len(group) > 1), default=0.0)
