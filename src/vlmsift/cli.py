"""The command line: parse, call one function, print. Nothing is measured or decided here."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vlmsift.errors import UsageError, VlmsiftError

app = typer.Typer(
    name="vlmsift",
    help="Find the image-instruction samples worth fine-tuning a vision-language model on.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# no square brackets in help: they are markup
Pool = Annotated[
    Path, typer.Argument(help="The data: .json, .jsonl, .parquet, a folder of parts, or a saved data set.")
]
Model = Annotated[str, typer.Option("--model", "-m", help="Model folder, or name on the Hugging Face hub.")]
Images = Annotated[Path | None, typer.Option(help="Folder that image paths are relative to (default: the data's).")]
PoolFormat = Annotated[str | None, typer.Option(help="The data's: llava, messages or sharegpt (default: guessed).")]
OutFormat = Annotated[
    str | None, typer.Option(help="To write: llava, messages or sharegpt (default: as the data, untouched).")
]
SourceField = Annotated[str | None, typer.Option(help="Key of a row that names its source or task.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, or spread over all devices.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of the model.")]
Template = Annotated[Path | None, typer.Option(help="File with a Jinja chat template to use instead of the model's.")]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that the model brings along.")]
Tokens = Annotated[int, typer.Option(help="Tokens per batch; halved by itself when memory runs out.")]
Workers = Annotated[int | None, typer.Option(help="Processes that read and encode (default: cores - 1, at most 8).")]
PartSize = Annotated[int, typer.Option(help="Rows per file of signals; a stopped run loses at most one file's work.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Throw away the signals of a run with other settings.")]
Keep = Annotated[str, typer.Option(help="Budget: 20% of the pool, or a number of samples.")]
Seed = Annotated[int, typer.Option(help="Seed of every draw and tie.")]


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
    from vlmsift.show import show_report

    adapter = open_model(
        model,
        device=device,
        dtype=dtype,
        revision=revision,
        chat_template=_text(chat_template),
        trust_remote_code=trust_remote_code,
    )
    report = check_adapter(adapter)
    show_report(report)
    if not report.supported:
        raise typer.Exit(1)


@app.command()
def score(
    pool: Pool,
    model: Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="The run folder; an unfinished run in it is resumed.")],
    signal: Annotated[
        list[str] | None,
        typer.Option(
            "--signal",
            "-s",
            help="NAME, NAME:field=value,... or COLUMN=NAME:...; repeatable (default: `vlmsift signals` marks them).",
        ),
    ] = None,
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
    from vlmsift.show import progress_bar, show_run

    with progress_bar() as progress:
        run = pipeline.score(
            pool,
            model,
            out,
            signals=signal,
            images=images,
            format=format,
            source_field=source_field,
            device=device,
            dtype=dtype,
            revision=revision,
            chat_template=_text(chat_template),
            trust_remote_code=trust_remote_code,
            tokens_per_batch=tokens_per_batch,
            workers=workers,
            part_size=part_size,
            overwrite=overwrite,
            progress=progress,
        )
    show_run(run, progress.last)


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
    method: Annotated[str, typer.Option(help="A method; `vlmsift methods` lists them.")] = "delta-attnmask",
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
            chat_template=_text(chat_template),
            trust_remote_code=trust_remote_code,
            tokens_per_batch=tokens_per_batch,
            workers=workers,
            part_size=part_size,
            overwrite=overwrite,
            progress=progress,
        )
    show_selection(selection, f"written to {out}; the run is in {selection.run.folder}")


@app.command()
def signals() -> None:
    """List the signals that can be scored, with their fields."""
    from vlmsift.show import show_signals

    show_signals()


@app.command()
def methods() -> None:
    """List the methods that `sift` knows."""
    from vlmsift.show import show_methods

    show_methods()


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where pool, run, figure and kept rows go.")] = Path(
        "demo-run"
    ),
    size: Annotated[int, typer.Option(help="Samples in the pool.")] = 3000,
    seed: Seed = 0,
) -> None:
    """Spoil a known part of a pool, and watch the embedded model sift it."""
    from vlmsift.demo.run import run_demo

    run_demo(out, size=size, seed=seed)


def _text(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as text: {error}") from error


def _version(wanted: bool) -> None:
    if wanted:
        from vlmsift import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; every error that is the user's to mend is a sentence on stderr and exit code 2."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # read when transformers is imported, later
    # read when torch is: threads that wait by spinning take the cores from whatever else runs, workers of ours included
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return app(arguments, prog_name="vlmsift")
    except VlmsiftError as error:
        typer.echo(f"vlmsift: {error}", err=True)
    except OSError as error:  # a full disk, a missing permission
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        typer.echo(f"vlmsift: {what}. Check that place, and the same command goes on from what is finished", err=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
