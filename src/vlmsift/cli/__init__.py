"""The command line: parse, call one function, print. Nothing is measured or decided here."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from vlmsift.cli import measure  # isort: skip  (the help lists commands in this order)
from vlmsift.cli import choose, learn  # isort: skip
from vlmsift.cli.options import app
from vlmsift.errors import VlmsiftError

__all__ = ["app", "choose", "learn", "main", "measure"]


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
