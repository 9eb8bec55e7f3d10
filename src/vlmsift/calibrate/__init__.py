"""How well each signal finds known-bad samples, planted in the user's own pool, with the user's own model.

In: a pool and a model. Out, in one folder: the run of the planted pool, a table of figures, what they say in sentences,
and a config with the recommended signals that `score --config` takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmsift.errors import UsageError
from vlmsift.files import check_output
from vlmsift.parameters import Seed, check_value
from vlmsift.specs import EngineSpec, ModelSpec, PoolSpec, as_spec
from vlmsift.tables import Account

if TYPE_CHECKING:
    from vlmsift.calibrate.probe import Probe, ProbePlan
    from vlmsift.models import Adapter
    from vlmsift.pools import Pool
    from vlmsift.runs.run import Run
    from vlmsift.scoring.score import Progress


@dataclass(frozen=True)
class Calibration:
    """What a calibration found.

    Attributes:
        folder: holds `run/`, `calibration.yaml` (`config`), `table.parquet` and `calibration.md`.
        table: one record per candidate, best mean AUROC first; what each key means stands in `calibration.md`.
        recommended: the recommended signal, as a word. column: its column in the run.
        sentences: the verdict. left_out: what could not be planted or measured.
        counts: originals, and measured twins of each kind.
        forwards: text forwards per sample of the whole grid; alone: the sum of its settings' own costs.
        seconds: of the scoring in this start.
        weights: word -> weight on the standardised value, of the signal `calibrated`; empty where it has no fit.
        probe: what short trainings on the best subsets gave; None without one.
    """

    folder: Path
    run: Run
    table: list[dict[str, Any]]
    recommended: str
    column: str
    sentences: list[str]
    left_out: list[str]
    counts: dict[str, int]
    forwards: float
    alone: float
    seconds: float
    weights: Mapping[str, float] = field(default_factory=dict)
    probe: Probe | None = None

    @property
    def config(self) -> Path:
        """The file that `score --config` takes."""
        return self.folder / "calibration.yaml"

    def account(self) -> Account:
        """The same as it is told."""
        from vlmsift.calibrate.writing import account

        return account(self)


def calibrate(
    pool: str | Path | PoolSpec | Pool,
    model: str | Path | ModelSpec | Adapter,
    out: str | Path,
    *,
    sample: int = 400,
    twins: int = 150,
    plants: Sequence[str] | None = None,
    grid: str | Sequence[str] = "small",
    seed: int = 0,
    probe: bool = False,
    probe_test: str | Path | None = None,
    probe_options: Mapping[str, Any] | None = None,
    engine: EngineSpec | None = None,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Calibration:
    """Plant known-bad twins in a sample of the pool, measure a grid of signals on both, and recommend a setting.

    Stopped and started again with the same arguments, it goes on where it was. The user's files are only read.

    Args:
        pool, model, engine, progress: as for `score`.
        out: the folder to write.
        sample: originals drawn from the pool; twins: at most so many of each kind.
        plants: kinds to plant (see `plants.PLANTS`); None = all.
        grid: "small", "full", or signals as on the command line.
        seed: of the draw, the twins, the bootstrap and the folds.
        probe: also train briefly on the best 20 % by a few settings, and recommend by what that teaches.
        probe_test: a held-out clean data file for the probe; None = a part of the sample, as clean as the pool is.
        probe_options: fields of `probe.ProbePlan`: `seeds`, `recipe`, `changes`, `share`, `columns`.
        overwrite: throw away an earlier calibration with other settings.

    Raises:
        UsageError: an unknown plant or grid, a pool too small, a probe that cannot be carried out, or nothing that
            could be measured. Only the last is told after the pool is scored.
        RunMismatch: `out` holds a calibration with other settings.
    """
    from vlmsift.calibrate.combined import combined
    from vlmsift.calibrate.grid import VECTOR, candidates, default_column
    from vlmsift.calibrate.verdict import judge, recommend, rows_of
    from vlmsift.calibrate.writing import write_all
    from vlmsift.models import open_model
    from vlmsift.plants.layout import read_layout, read_values
    from vlmsift.plants.planted import Planted
    from vlmsift.plants.share import estimate
    from vlmsift.pools import open_pool
    from vlmsift.runs.beginning import check_run_folder
    from vlmsift.scoring.score import score
    from vlmsift.signals import build_signals, forwards

    if engine is not None:
        engine.check_alone("calibrate")
    seed = check_value("calibrate", "seed", seed, Seed)
    options = {**(probe_options or {}), **({} if probe_test is None else {"test": str(probe_test)})}
    spec = as_spec(ModelSpec, model)
    plan = _plan_probe(probe, options, {"model": spec, "seed": seed})
    folder = Path(out)
    check_output(folder, folder=True)
    check_run_folder(folder / "run", overwrite)
    planted: Any = Planted(open_pool(as_spec(PoolSpec, pool)), sample=sample, twins=twins, plants=plants, seed=seed)
    model = open_model(spec) if isinstance(spec, ModelSpec) else spec
    compared = candidates(grid, model.depth)
    columns = [one.column for one in compared]
    if plan is not None:
        plan.refuse_unmeasured(columns)
    words = [f"{one.column}={one.word}" for one in compared]
    words += [name for name in ("answer_tokens", VECTOR) if name not in columns]
    started = time.perf_counter()
    engine = (engine or EngineSpec()).alone()
    run = score(planted, model, folder / "run", signals=words, engine=engine, overwrite=overwrite, progress=progress)
    seconds = time.perf_counter() - started
    layout, left_out = read_layout(run, planted)
    values = read_values(run, [*(one.column for one in compared), "answer_loss", "answer_tokens"])
    judged = judge(compared, values, layout, seed)
    default = default_column(compared, model.depth)
    verdict = recommend(judged, default)
    weights, more, told = combined(judged, values, layout, verdict.column, seed)
    judged |= more
    known = {**values, **({"delta_attnmask": values[default]} if default else {})}
    spoiled = estimate(known, layout)
    sentences, column, probed = [*verdict.sentences, *told, spoiled.sentence()], verdict.column, None
    if plan is not None:
        from vlmsift.calibrate.probe import run_probe

        probed = run_probe(plan, run, planted, layout, judged, model, folder / "probe", default)
        column = probed.column or column
        sentences += probed.sentences
    cost, alone = forwards(build_signals(words).values(), model.depth), sum(one.forwards for one in compared)
    counts = {kind: int(rows.sum()) for kind, rows in {"originals": layout.originals, **layout.twins}.items()}
    table, named = rows_of(judged, probed.means if probed else {}), weights.named if weights else {}
    recommended = judged[column].candidate.word
    calibration = Calibration(
        folder, run, table, recommended, column, sentences, left_out, counts, cost, alone, seconds, named, probed
    )
    write_all(calibration, judged, weights)
    return calibration


def _plan_probe(probe: bool, options: Mapping[str, Any], shared: Mapping[str, Any]) -> ProbePlan | None:
    """The probe, checked before anything is scored; None where there is to be none."""
    from vlmsift.calibrate.probe import ProbePlan
    from vlmsift.parameters import make

    for name, value in options.items():
        if not probe:
            name = "probe_test" if name == "test" else name
            raise UsageError(f"{name}={value!r} is only read by a probe; give probe=True (--probe) as well")
        if name in shared:
            raise UsageError(f"the probe takes {name} from the calibration; leave it out of probe_options")
    return make(ProbePlan, "the probe", {**shared, **options}) if probe else None
