"""Commands that choose: select, export, sift, methods."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from vlmsift.cli.options import (
    Config,
    Device,
    Dtype,
    Images,
    Keep,
    Model,
    OutFormat,
    Overwrite,
    PartSize,
    Pool,
    PoolFormat,
    Revision,
    Seed,
    SourceField,
    Template,
    Tokens,
    Trust,
    Workers,
    app,
    text_of,
)


@app.command()
def select(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    by: Annotated[str, typer.Option(help="The signal to choose by.")] = "delta_attnmask",
    keep: Keep = "20%",
    pick: Annotated[str, typer.Option(help="highest, lowest, middle, or band (with --low and --high).")] = "highest",
    low: Annotated[str | None, typer.Option(help="Lower end of the band: a value, or a quantile such as 30%.")] = None,
    high: Annotated[str | None, typer.Option(help="Upper end of the band.")] = None,
    balance: Annotated[str, typer.Option(help="auto, answer, source, clusters or none.")] = "auto",
    clusters: Annotated[int | None, typer.Option(help="Number of clusters for --balance clusters.")] = None,
    where: Annotated[str | None, typer.Option(help="SQL condition over the run's columns.")] = None,
    text_only: Annotated[str, typer.Option(help="Samples without image: same-rate, keep or drop.")] = "same-rate",
    seed: Seed = 0,
    name: Annotated[str, typer.Option(help="Name under which the selection is kept in the run.")] = "selection",
) -> None:
    """Choose samples by a run's signals, and keep the choice in the run."""
    from vlmsift import pipeline, selectors
    from vlmsift.show import show_selection

    selection = pipeline.select(
        run,
        by=by,
        keep=keep,
        pick=pick,
        low=low,
        high=high,
        balance=balance,
        clusters=clusters,
        where=where,
        text_only=text_only,
        seed=seed,
    )
    path = selectors.save(selection, selection.run, name)
    named = "" if name == "selection" else f" --name {shlex.quote(name)}"
    show_selection(selection, f"saved as {path}; next: vlmsift export {shlex.quote(str(run))} --out kept.json{named}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder with a selection.")],
    out: Annotated[str, typer.Option("--out", "-o", help=".json, .jsonl, .parquet, or folder/ for a saved data set.")],
    name: Annotated[str, typer.Option(help="The selection's name.")] = "selection",
    dropped: Annotated[
        bool, typer.Option("--dropped", help="Write the dropped rows instead of the kept ones.")
    ] = False,
    format: OutFormat = None,
    pool: Annotated[Path | None, typer.Option(help="The data's place, if it was moved since scoring.")] = None,
) -> None:
    """Write the kept rows, untouched, in the source format or another."""
    from vlmsift import pipeline, selectors
    from vlmsift.show import say
    from vlmsift.store import Run

    opened = Run.open(run)
    selection = selectors.load(opened, name)
    path = pipeline.export(opened, selection, out, format=format, dropped=dropped, pool=pool)
    count = len(selection.dropped) if dropped else len(selection.ids)
    say(f"{count:,} {'dropped' if dropped else 'kept'} rows written to {path}")


@app.command()
def sift(
    pool: Pool,
    model: Model,
    out: Annotated[str, typer.Option("--out", "-o", help="Where the kept rows go, as in `vlmsift export`.")],
    method: Annotated[
        str | None, typer.Option(help="A method; `vlmsift methods` lists them (default: delta-attnmask).")
    ] = None,
    config: Config = None,
    keep: Keep = "20%",
    run: Annotated[Path | None, typer.Option(help="The run folder (default: beside --out).")] = None,
    images: Images = None,
    format: OutFormat = None,
    pool_format: PoolFormat = None,
    source_field: SourceField = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    revision: Revision = None,
    chat_template: Template = None,
    trust_remote_code: Trust = False,
    tokens_per_batch: Tokens = 8192,
    workers: Workers = None,
    part_size: PartSize = 512,
    overwrite: Overwrite = False,
    seed: Seed = 0,
) -> None:
    """Score, select and export in one go."""
    from vlmsift import methods
    from vlmsift.show import progress_bar, show_selection

    with progress_bar() as progress:
        selection = methods.sift(
            pool,
            model,
            out,
            method=method,
            config=config,
            keep=keep,
            run=run,
            seed=seed,
            format=format,
            pool_format=pool_format,
            images=images,
            source_field=source_field,
            device=device,
            dtype=dtype,
            revision=revision,
            chat_template=text_of(chat_template),
            trust_remote_code=trust_remote_code,
            tokens_per_batch=tokens_per_batch,
            workers=workers,
            part_size=part_size,
            overwrite=overwrite,
            progress=progress,
        )
    show_selection(selection, f"written to {out}; the run is in {selection.run.folder}")


@app.command()
def methods() -> None:
    """List the methods that `sift` knows."""
    from vlmsift.show import show_methods

    show_methods()
