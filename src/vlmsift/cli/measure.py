"""Commands that look inside a model: check, score, signals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlmsift.cli.options import (
    Config,
    Device,
    Dtype,
    Images,
    Models,
    Overwrite,
    PartSize,
    Pool,
    PoolFormat,
    Revision,
    SourceField,
    Template,
    Tokens,
    Trust,
    Workers,
    app,
    text_of,
)


@app.command()
def check(
    model: Annotated[str, typer.Argument(help="Model folder, or name on the Hugging Face hub.")],
    device: Device = "auto",
    dtype: Dtype = "float32",
    revision: Revision = None,
    chat_template: Template = None,
    trust_remote_code: Trust = False,
) -> None:
    """Open a model, say what was found in it, prove it, and say whether it is supported."""
    from vlmsift.check import check_adapter
    from vlmsift.models import open_model
    from vlmsift.terminal import show_report

    adapter = open_model(
        model,
        device=device,
        dtype=dtype,
        revision=revision,
        chat_template=text_of(chat_template),
        trust_remote_code=trust_remote_code,
    )
    report = check_adapter(adapter)
    show_report(report)
    if not report.supported:
        raise typer.Exit(1)


@app.command()
def score(
    pool: Pool,
    model: Models,
    out: Annotated[Path, typer.Option("--out", "-o", help="The run folder; an unfinished run in it is resumed.")],
    signal: Annotated[
        list[str] | None,
        typer.Option(
            "--signal",
            "-s",
            help="NAME, NAME:field=value,... or COLUMN=NAME:...; repeatable (default: `vlmsift signals` marks them).",
        ),
    ] = None,
    config: Config = None,
    images: Images = None,
    format: PoolFormat = None,
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
) -> None:
    """Measure signals of every sample. Stopped at any point, the same command goes on."""
    from vlmsift import pipeline
    from vlmsift.terminal import progress_bar, show_run

    with progress_bar() as progress:
        run = pipeline.score(
            pool,
            model,
            out,
            signals=signal,
            config=config,
            images=images,
            format=format,
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
    show_run(run, progress.last)


@app.command()
def signals() -> None:
    """List the signals that can be scored, with their fields."""
    from vlmsift.terminal import show_signals

    show_signals()
