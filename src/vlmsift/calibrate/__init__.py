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

if TYPE_CHECKING:
    from vlmsift.calibrate.probe import Probe
    from vlmsift.models import Adapter
    from vlmsift.pipeline import Progress
    from vlmsift.pools import Pool
    from vlmsift.runs.run import Run


@dataclass(frozen=True)
class Calibration:
    """What a calibration found.

    Attributes:
        folder: holds `run/`, `calibration.yaml`, `table.parquet` and `calibration.md`.
        config: the path of `calibration.yaml`.
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

    def markdown(self, rows: int | None = None) -> str:
        """The table (of its first `rows` candidates) in Markdown."""
        from vlmsift.calibrate.writing import markdown_table

        return markdown_table(self.table[:rows])


def calibrate(
    pool: str | Path | Pool,
    model: str | Path | Adapter,
    out: str | Path,
    *,
    images: str | Path | None = None,
    format: str | None = None,
    source_field: str | None = None,
    sample: int = 400,
    twins: int = 150,
    plants: Sequence[str] | None = None,
    grid: str | Sequence[str] = "small",
    seed: int = 0,
    probe: bool = False,
    probe_test: str | Path | None = None,
    probe_options: Mapping[str, Any] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    chat_template: str | None = None,
    trust_remote_code: bool = False,
    tokens_per_batch: int = 8192,
    workers: int | None = None,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Calibration:
    """Plant known-bad twins in a sample of the pool, measure a grid of signals on both, and recommend a setting.

    Stopped and started again with the same arguments, it goes on where it was. The user's files are only read.

    Args:
        pool, model, images, format, source_field, device, dtype, ...: as for `score`.
        out: the folder to write.
        sample: originals drawn from the pool; twins: at most so many of each kind.
        plants: kinds to plant (see `plants.PLANTS`); None = all.
        grid: "small", "full", or signals as on the command line.
        seed: of the draw, the twins, the bootstrap and the folds.
        probe: also train briefly on the best 20 % by a few settings, and recommend by what that teaches.
        probe_test: a held-out clean data file for the probe; None = a part of the sample, as clean as the pool is.
        probe_options: keyword arguments of `probe.run_probe`, such as `seeds`, `recipe` or `steps`.
        overwrite: throw away an earlier calibration with other settings.

    Raises:
        UsageError: an unknown plant or grid, a pool too small, or nothing that could be measured.
        RunMismatch: `out` holds a calibration with other settings.
    """
    from vlmsift.calibrate.grid import VECTOR, candidates, default_column
    from vlmsift.calibrate.planted import Planted
    from vlmsift.calibrate.reading import read_layout, read_values
    from vlmsift.calibrate.verdict import judge, recommend, rows_of
    from vlmsift.calibrate.writing import write_all
    from vlmsift.pipeline import score
    from vlmsift.pools import open_pool

    if probe_test is not None and not probe:
        raise UsageError(f"probe_test={str(probe_test)!r} is only read by a probe; give probe=True (--probe) as well")
    if isinstance(pool, (str, Path)):
        pool = open_pool(pool, images=images, format=format, source_field=source_field)
    planted: Any = Planted(pool, sample=sample, twins=twins, plants=plants, seed=seed)

    from vlmsift.calibrate.combined import combined
    from vlmsift.models import open_model
    from vlmsift.signals import build_signals, forwards

    source = model
    if isinstance(model, (str, Path)):
        model = open_model(
            model,
            device=device,
            dtype=dtype,
            revision=revision,
            chat_template=chat_template,
            trust_remote_code=trust_remote_code,
        )
    found = candidates(grid, model.depth)
    words = [f"{one.column}={one.word}" for one in found]
    words += [name for name in ("answer_tokens", VECTOR) if all(one.column != name for one in found)]
    started = time.perf_counter()
    folder = Path(out)
    run = score(
        planted,
        model,
        folder / "run",
        signals=words,
        tokens_per_batch=tokens_per_batch,
        workers=workers,
        overwrite=overwrite,
        progress=progress,
    )
    seconds = time.perf_counter() - started

    layout, left_out = read_layout(run, planted)
    values = read_values(run, found)
    judged = judge(found, values, layout, seed)
    verdict = recommend(judged, default_column(found, model.depth))
    weights, joined, told = combined(judged, values, layout, verdict.column, seed)
    judged |= joined
    probed = None
    sentences, column = [*verdict.sentences, *told], verdict.column
    if probe:
        from vlmsift.calibrate.probe import run_probe

        if not isinstance(source, (str, Path)):
            raise UsageError("a probe trains copies of the model; give its folder or name, not an open model")
        how: dict[str, Any] = {"seed": seed, "default": default_column(found, model.depth)}
        how |= {"device": device, "dtype": dtype, **(probe_options or {})}
        probed = run_probe(run, planted, layout, judged, model, source, folder / "probe", test=probe_test, **how)
        column = probed.column or column
        sentences += probed.sentences
    signals = build_signals(words)
    calibration = Calibration(
        folder,
        run,
        rows_of(judged, probed.results if probed else {}),
        judged[column].candidate.word,
        column,
        sentences,
        left_out,
        {"originals": int(layout.originals.sum()), **{kind: int(rows.sum()) for kind, rows in layout.twins.items()}},
        forwards(signals.values(), model.depth),
        sum(one.forwards for one in found),
        seconds,
        weights.named if weights else {},
        probed,
    )
    write_all(calibration, judged, weights)
    return calibration
