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
    MethodKeep,
    Models,
    OutFormat,
    Overwrite,
    PartSize,
    Pool,
    PoolFormat,
    Recipe,
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
    selector: Annotated[
        str,
        typer.Option(
            help="Who chooses, as a word: top:by=answer_loss,pick=lowest or coincide:temperature=0.2. By default the "
            "highest delta_attnmask, balanced; `vlmsift methods` shows some."
        ),
    ] = "top",
    keep: Keep = "20%",
    where: Annotated[str | None, typer.Option(help="SQL condition over the run's columns.")] = None,
    text_only: Annotated[str, typer.Option(help="Samples without image: same-rate, keep or drop.")] = "same-rate",
    seed: Seed = 0,
    name: Annotated[str, typer.Option(help="Name under which the selection is kept in the run.")] = "selection",
) -> None:
    """Choose samples by a run's signals, and keep the choice in the run."""
    from vlmsift import selecting
    from vlmsift.terminal import show_selection

    selection = selecting.select(run, selector, keep, where=where, text_only=text_only, seed=seed)
    path = selection.save(name)
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
    from vlmsift.choosing.selection import Selection
    from vlmsift.runs.run import Run
    from vlmsift.terminal import say

    selection = Selection.load(Run.open(run), name)
    path = selection.export(out, format=format, dropped=dropped, pool=pool)
    count = len(selection.dropped) if dropped else len(selection.ids)
    say(f"{count:,} {'dropped' if dropped else 'kept'} rows written to {path}")


@app.command()
def sift(
    pool: Pool,
    model: Models,
    out: Annotated[str, typer.Option("--out", "-o", help="Where the kept rows go, as in `vlmsift export`.")],
    method: Annotated[
        str | None, typer.Option(help="A method; `vlmsift methods` lists them (default: delta-attnmask).")
    ] = None,
    config: Config = None,
    keep: MethodKeep = None,
    signal: Annotated[
        list[str] | None,
        typer.Option("--signal", "-s", help="Measure this in place of the method's signals; repeatable."),
    ] = None,
    selector: Annotated[str | None, typer.Option(help="Choose by this selector's word, not the method's.")] = None,
    trained: Annotated[
        bool, typer.Option("--trained", help="The model was fine-tuned on this pool already, as bye needs it.")
    ] = False,
    recipe: Recipe = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Another value of that recipe, as epochs=1; repeatable.")
    ] = None,
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
    """Score, select and export in one go, with the fine-tune before that some methods need."""
    from vlmsift import methods
    from vlmsift.parameters import parse_changes
    from vlmsift.terminal import progress_bar, show_selection
    from vlmsift.terminal.learning import training_bar
    from vlmsift.terminal.methods import tell_needs

    if method is not None:
        tell_needs(method, model, trained)
    with training_bar() as training_progress, progress_bar() as progress:
        selection = methods.sift(
            pool,
            model,
            out,
            method=method,
            config=config,
            keep=keep,
            signals=signal,
            selector=selector,
            trained=trained,
            recipe=recipe,
            changes=parse_changes(change or []),
            training_progress=training_progress,
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
    assert selection.run is not None  # it was scored
    show_selection(selection, f"written to {out}; the run is in {selection.run.folder}")


@app.command()
def methods(
    markdown: Annotated[bool, typer.Option("--markdown", help="As docs/methods.md has them.")] = False,
) -> None:
    """List the methods that `sift` knows: what each measures, costs, needs, and where it comes from."""
    from vlmsift.terminal.methods import methods_markdown, show_methods

    if markdown:
        typer.echo(methods_markdown(), nl=False)
    else:
        show_methods()
