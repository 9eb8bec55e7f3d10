"""The application object, and the options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlmsift.errors import UsageError

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
Models = Annotated[
    list[str],
    typer.Option(
        "--model",
        "-m",
        help="Model folder, or name on the Hugging Face hub. Repeated, or a folder of step-N or checkpoint-N folders: "
        "checkpoints of one training, in order.",
    ),
]
Recipe = Annotated[str | None, typer.Option(help="Of a fine-tune that the method needs (default: the method's own).")]
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
Keep = Annotated[
    str, typer.Option(help="Budget: 20% or 0.2 of the pool, a number, or clean for a selector that judges.")
]
MethodKeep = Annotated[
    str | None,
    typer.Option(
        "--keep", help="Budget: 20% of the pool, a number, or clean for a method that judges (default: the method's)."
    ),
]
Config = Annotated[Path | None, typer.Option(help="A file that `vlmsift calibrate` wrote.")]
Seed = Annotated[int, typer.Option(help="Seed of every draw and tie.")]


def text_of(path: Path | None) -> str | None:
    """The file's text; None for None. Raises UsageError where it cannot be read."""
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as text: {error}") from error
