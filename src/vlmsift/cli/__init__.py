"""The command line: parse, call one function, print. Nothing is measured or decided here."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
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
    """Run the command line; every error that is the user's to mend is a sentence on stderr and exit code 2.

    Ctrl-C is exit code 130. A program's fault keeps its traceback.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # read when transformers is imported, later
    # read when torch is: threads that wait by spinning take the cores from whatever else runs, workers of ours included
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return app(arguments, prog_name="vlmsift")
    except VlmsiftError as error:
        typer.echo(f"vlmsift: {error}", err=True)
    except OSError as error:  # a missing permission, a file that is in the way
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        typer.echo(f"vlmsift: {what}. {_GOES_ON}", err=True)
    except (KeyboardInterrupt, SystemExit) as error:  # typer makes the one into the other, and says nothing
        if not any(isinstance(one, KeyboardInterrupt) for one in _causes(error)):
            raise
        typer.echo("vlmsift: stopped. Start the same command again; what was finished is kept", err=True)
        sys.exit(130)
    except Exception as error:
        if not any(_DISK.search(str(one)) for one in _causes(error)):
            raise
        typer.echo(f"vlmsift: writing failed, the disk may be full: {error}. {_GOES_ON}", err=True)
    sys.exit(2)


_GOES_ON = "Check that place, and the same command goes on from what is finished"
_DISK = re.compile(r"No space left|quota exceeded|inline_container\.cc|iostream error|I/O error", re.IGNORECASE)
"""What torch's and safetensors' own errors say when a write fails."""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
