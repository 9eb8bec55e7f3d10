"""Commands that choose, and show what was chosen: select, export, report, sift, methods."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from vlmsift.cli.options import (
    Changes,
    Config,
    Keep,
    MethodKeep,
    OutFormat,
    Overwrite,
    Recipe,
    Seed,
    Signals,
    app,
    command,
)
from vlmsift.parameters import parse_changes
from vlmsift.specs import Device, EngineSpec, ModelSpec, PoolSpec


@app.command()
def select(
    run: Annotated[str, typer.Argument(help="A run folder, or its URL.")],
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
    run: Annotated[str, typer.Argument(help="A run folder with a selection, or its URL.")],
    out: Annotated[str, typer.Option("--out", "-o", help=".json, .jsonl, .parquet, or folder/ for a saved data set.")],
    name: Annotated[str, typer.Option(help="The selection's name.")] = "selection",
    dropped: Annotated[
        bool, typer.Option("--dropped", help="Write the dropped rows instead of the kept ones.")
    ] = False,
    out_format: OutFormat = None,
    pool: Annotated[str | None, typer.Option(help="The data's place, if it was moved since scoring.")] = None,
) -> None:
    """Write the kept rows, untouched, in the source format or another."""
    from vlmsift.choosing.selection import Selection
    from vlmsift.runs.run import Run
    from vlmsift.terminal import say

    selection = Selection.load(Run.open(run), name)
    path = selection.export(out, format=out_format, dropped=dropped, pool=pool)
    count = len(selection.dropped) if dropped else len(selection.ids)
    say(f"{count:,} {'dropped' if dropped else 'kept'} rows written to {path}")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    selection: Annotated[
        list[str] | None, typer.Option(help="A saved selection; repeatable (default: all that the run has).")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page.")] = Path("report.html"),
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The scored model: shows where it looks while it answers.")
    ] = None,
    device: Device = "auto",
    pool: Annotated[Path | None, typer.Option(help="The data's place, if it was moved since scoring.")] = None,
    seed: Seed = 0,
) -> None:
    """Write a page to look at: the run, what was kept and dropped, samples, and why."""
    from vlmsift.report import write_report
    from vlmsift.terminal import say

    spec = None if model is None else ModelSpec(model, device=device)
    say(f"the report is {write_report(run, out, selections=selection, model=spec, pool=pool, seed=seed)}")


@command
def sift(
    pool: PoolSpec,
    model: ModelSpec,
    out: Annotated[str, typer.Option("--out", "-o", help="Where the kept rows go, as in `vlmsift export`.")],
    engine: EngineSpec,
    method: Annotated[
        str | None, typer.Option(help="A method; `vlmsift methods` lists them (default: judge-cover).")
    ] = None,
    config: Config = None,
    keep: MethodKeep = None,
    signal: Signals = None,
    selector: Annotated[str | None, typer.Option(help="Choose by this selector's word, not the method's.")] = None,
    proxy: Annotated[
        str | None, typer.Option(help="A small model that is scored (and fine-tuned) in the place of --model.")
    ] = None,
    share: Annotated[
        str,
        typer.Option(
            help="With --proxy: score so much of the pool, as 5%, with --model too, and learn from it to tell its "
            "numbers; 0 = the proxy alone."
        ),
    ] = "0",
    trained: Annotated[
        bool, typer.Option("--trained", help="The model was fine-tuned on this pool already, as bye needs it.")
    ] = False,
    plants: Annotated[
        bool, typer.Option("--plants/--no-plants", help="Let planted twins tell how much to drop, or drop half.")
    ] = True,
    recipe: Recipe = None,
    changes: Changes = None,
    run: Annotated[str | None, typer.Option(help="The run folder, or its URL (default: beside --out).")] = None,
    page: Annotated[
        bool, typer.Option("--report/--no-report", help="Also write a page to look at, beside --out.")
    ] = True,
    out_format: OutFormat = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
) -> None:
    """Score, select and export in one go, with the fine-tune before that some methods need."""
    from vlmsift.folders import is_url
    from vlmsift.methods.sifting import SAVED, make_method
    from vlmsift.methods.sifting import sift as run_all
    from vlmsift.report import check_page, write_report
    from vlmsift.terminal import progress_bar, show_selection
    from vlmsift.terminal.learning import training_bar
    from vlmsift.terminal.methods import tell_needs

    chosen = make_method(
        method, config=config, signals=signal, selector=selector, recipe=recipe, changes=parse_changes(changes or [])
    )
    page = page and not is_url(out)  # it is a file on a disk
    beside = Path(out).with_name(f"{Path(out).stem}-report.html")
    if page:
        check_page(beside)
    tell_needs(chosen, proxy or model.model, trained)
    with training_bar() as training_progress, progress_bar() as progress:
        selection = run_all(
            pool,
            model,
            out,
            method=chosen,
            keep=keep,
            proxy=proxy,
            share=share,
            trained=trained,
            plants=plants,
            run=run,
            out_format=out_format,
            seed=seed,
            engine=engine,
            overwrite=overwrite,
            progress=progress,
            training_progress=training_progress,
        )
    assert selection.run is not None  # it was scored
    ending = f"written to {out}; the run is in {selection.run.place}"
    if page:
        scored = selection.run.settings["info"]["model"]  # maybe a proxy, fine-tuned, or checkpoints, of which the last
        looks = replace(model, model=scored if isinstance(scored, str) else scored[-1])
        if str(looks.model) != str(model.model):
            looks = replace(looks, revision=None, chat_template=None)
        write_report(selection.run, beside, selections=[SAVED], model=looks, seed=seed)
        ending += f"; the report is {beside}"
    show_selection(selection, ending)


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
