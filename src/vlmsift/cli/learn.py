"""Commands that learn: calibrate, train, validate, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlmsift.cli.options import Changes, Overwrite, Seed, Signals, app, command
from vlmsift.errors import UsageError
from vlmsift.parameters import parse_changes
from vlmsift.specs import EngineSpec, ModelSpec, PoolSpec, parse_shard


@command
def calibrate(
    pool: PoolSpec,
    model: ModelSpec,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the run, the table and calibration.yaml.")],
    engine: EngineSpec,
    sample: Annotated[int, typer.Option(help="Originals drawn from the pool.")] = 400,
    twins: Annotated[int, typer.Option(help="Most twins of each kind.")] = 150,
    plant: Annotated[list[str] | None, typer.Option(help="Kind of plant; repeatable (default: all).")] = None,
    grid: Annotated[str | None, typer.Option(help="Settings to compare: small (the default) or full.")] = None,
    signal: Signals = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Also train briefly on each candidate's best 20 %, and recommend by that.")
    ] = False,
    probe_test: Annotated[Path | None, typer.Option(help="Clean held-out data to judge the probe's trainings.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Of the probe's trainings (default: llava-1.5).")] = None,
    changes: Changes = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
) -> None:
    """Plant known-bad samples in your pool, and see which signal and which setting finds them."""
    from vlmsift.calibrate import calibrate as run
    from vlmsift.parameters import parse_changes
    from vlmsift.terminal import progress_bar
    from vlmsift.terminal.learning import show_calibration

    if grid and signal:
        raise UsageError(f"--grid {grid} and --signal {signal[0]} both say what is compared; give one of them")
    options = {"recipe": recipe, "changes": parse_changes(changes or [])}
    with progress_bar() as progress:
        found = run(
            pool,
            model,
            out,
            sample=sample,
            twins=twins,
            plants=plant,
            grid=signal or grid or "small",
            seed=seed,
            probe=probe,
            probe_test=probe_test,
            probe_options={name: value for name, value in options.items() if value},
            engine=engine,
            overwrite=overwrite,
            progress=progress,
        )
    show_calibration(found)


@command
def train(
    data: PoolSpec,
    model: ModelSpec,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the trained model; whole or absent.")],
    recipe: Annotated[str, typer.Option(help="llava-1.5 or llava-1.5-lora.")] = "llava-1.5",
    changes: Changes = None,
    augment: Annotated[
        str | None,
        typer.Option(help="Masked-states augmentation: a variant, as top or top:depth=0.5,ratio=0.3 (default: none)."),
    ] = None,
    augment_probability: Annotated[
        float | None, typer.Option(help="Chance of a sample to be augmented (default: the variant's own, 0.5 or 1).")
    ] = None,
    configs: Annotated[
        bool, typer.Option("--configs", help="Train nothing: write settings for LLaMA-Factory and ms-swift to --out.")
    ] = False,
    anew: Annotated[bool, typer.Option("--anew", help="Throw away what an earlier training left in --out.")] = False,
    snapshots: Annotated[
        int,
        typer.Option(help="Also keep the model at so many evenly spaced steps, in OUT/snapshots; the last is the end."),
    ] = 0,
    seed: Seed = 0,
) -> None:
    """Fine-tune a model on a data file, such as an exported selection."""
    from vlmsift.terminal.learning import show_configs, show_trained, training_bar

    changed = parse_changes(changes or [])
    if configs:
        if augment:
            raise UsageError(f"--augment {augment} has no counterpart in those trainers; leave it out with --configs")
        if snapshots:
            raise UsageError(f"--snapshots {snapshots} is for a training here; leave it out with --configs")
        from vlmsift.train.configs import write_configs

        show_configs(write_configs(data, model, out, recipe=recipe, changes=changed, seed=seed))
        return
    from vlmsift.augment import context_of
    from vlmsift.train import train as fine_tune

    context = context_of(augment, augment_probability, seed)
    with training_bar() as progress:
        trained = fine_tune(
            data,
            model,
            out,
            recipe=recipe,
            changes=changed,
            seed=seed,
            resume=not anew,
            context=context,
            progress=progress,
            snapshots=snapshots,
        )
    show_trained(trained)


@app.command()
def validate(
    plan: Annotated[Path, typer.Argument(help="The plan, a YAML file; docs/results.md shows some.")],
    shard: Annotated[
        str | None, typer.Option(help="i/n: run every n-th cell from the i-th (0, 1, ...), and make no table.")
    ] = None,
) -> None:
    """Compare methods, budgets and seeds by what models learn. Stopped at any point, the same command goes on."""
    from vlmsift.experiment import validate as run
    from vlmsift.terminal.learning import show_validation, validation_bar

    with validation_bar() as progress:
        found = run(plan, shard=parse_shard(shard) if shard else None, progress=progress)
    show_validation(found)
    if found.errors:
        raise typer.Exit(1)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where pool, run, figure and kept rows go.")] = Path(
        "demo-run"
    ),
    size: Annotated[int, typer.Option(help="Samples in the pool.")] = 3000,
    seed: Seed = 0,
    teach: Annotated[bool, typer.Option("--teach/--no-teach", help="Train on parts of the pool at the end.")] = True,
) -> None:
    """Spoil a known part of a pool, watch the embedded model sift it, and train on what it kept."""
    from vlmsift.demo.run import run_demo

    run_demo(out, size=size, seed=seed, lesson=teach)
