"""Commands that look inside a model: check, score, signals."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from vlmsift.cli.options import Config, Overwrite, Signals, command
from vlmsift.specs import EngineSpec, ModelSpec, PoolSpec


@command
def check(model: ModelSpec) -> None:
    """Open a model, say what was found in it, prove it, and say whether it is supported."""
    from vlmsift.check import check_adapter
    from vlmsift.models import open_model
    from vlmsift.terminal import show_report

    # in low precision the two ways round differently
    report = check_adapter(open_model(replace(model, dtype="float32") if model.dtype == "auto" else model))
    show_report(report)
    if not report.supported:
        raise typer.Exit(1)


@command
def score(
    pool: PoolSpec,
    model: ModelSpec,
    out: Annotated[
        str, typer.Option("--out", "-o", help="The run folder, or its URL; an unfinished run in it is resumed.")
    ],
    engine: EngineSpec,
    signal: Signals = None,
    config: Config = None,
    where: Annotated[
        str | None, typer.Option(help="Measure only the rows of the run --of that fulfil this SQL condition.")
    ] = None,
    of: Annotated[str | None, typer.Option(help="An earlier run on the same data, as of a smaller model.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure signals of every sample. Stopped at any point, the same command goes on."""
    from vlmsift.scoring.score import score as measure
    from vlmsift.scoring.shards import find_shard
    from vlmsift.terminal import progress_bar, show_run, show_shard

    show_shard(find_shard(engine))
    with progress_bar() as progress:
        run = measure(
            pool,
            model,
            out,
            signals=signal,
            config=config,
            where=where,
            of=of,
            engine=engine,
            overwrite=overwrite,
            progress=progress,
        )
    show_run(run, progress.last)


@command
def signals() -> None:
    """List the signals that can be scored, with their fields."""
    from vlmsift.terminal import show_signals

    show_signals()
