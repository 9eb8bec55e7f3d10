"""The application object, and options: those of a spec are read off its fields, so that each is declared once."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from vlmsift.parameters import Parameters, field_types

app = typer.Typer(
    name="vlmsift",
    help="Find the image-instruction samples worth fine-tuning a vision-language model on.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# no square brackets in help: they are markup
Recipe = Annotated[str | None, typer.Option(help="Of a fine-tune that the method needs (default: the method's own).")]
OutFormat = Annotated[
    str | None, typer.Option(help="To write: llava, messages or sharegpt (default: as the data, untouched).")
]
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
Signals = Annotated[
    list[str] | None,
    typer.Option("--signal", "-s", help="NAME, NAME:field=value,... or COLUMN=NAME:...; repeatable."),
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="Another value of the recipe, as epochs=3; repeatable.")
]
Seed = Annotated[int, typer.Option(help="Seed of every draw and tie.")]


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Register a command; a parameter whose type is a spec becomes an option for each of the spec's fields.

    The first field of the first spec is what the command is about: its argument.
    """
    hints = get_type_hints(function, include_extras=True)
    parts: dict[str, Any] = {}
    options: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        hint = hints[parameter.name]
        if isinstance(hint, type) and issubclass(hint, Parameters):
            kinds, fields = field_types(hint), dataclasses.fields(hint)  # type: ignore[arg-type]
            argument = None if parts else fields[0].name
            options += [_option(field, kinds[field.name], field.name == argument) for field in fields]
            parts[parameter.name] = hint
        else:
            options.append(parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(function)
    def call(**given: Any) -> None:
        for name, spec in parts.items():
            given[name] = spec(**{field.name: given.pop(field.name) for field in dataclasses.fields(spec)})
        function(**given)

    call.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    call.__annotations__ = {option.name: option.annotation for option in options}
    del call.__wrapped__  # typer would read the signature there
    return app.command()(call)


def _option(field: Any, hint: Any, argument: bool) -> inspect.Parameter:
    """A field of a spec as an option of the command line, or as its argument."""
    kind, description = _stripped(hint)
    required = field.default is dataclasses.MISSING
    flags = field.metadata.get("flags", (f"--{field.name.replace('_', '-')}",))
    info = typer.Argument(help=description) if argument else typer.Option(*flags, help=description)
    default = inspect.Parameter.empty if required else field.default
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
    )


def _stripped(hint: Any) -> tuple[Any, str]:
    """A field's type as typer knows it, and its description."""
    description = ""
    while get_origin(hint) is Annotated:
        hint, *more = get_args(hint)
        description = next((meta.description for meta in more if getattr(meta, "description", None)), description)
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [_stripped(one)[0] for one in get_args(hint)]
        if list[str] in kinds:
            return list[str], description
        kind = Path if Path in kinds else next(one for one in kinds if one is not type(None))
        return (kind | None if type(None) in kinds else kind), description
    if get_origin(hint) is Literal:  # the spec says what may be given
        return str, description
    return (list[str] if get_origin(hint) is Sequence else hint), description
