"""Fields of a dataclass as words on the command line. In: "field=value,field=value". Out: typed keyword arguments."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterable
from typing import Any, get_args, get_type_hints

from vlmsift.errors import UsageError


def fields_of(cls: Any, name: str, text: str) -> dict[str, Any]:
    """The fields of the dataclass `cls`, called `name` in errors, that a text sets.

    Raises:
        UsageError: an unknown field, or a value of the wrong kind.
    """
    known = {field.name for field in dataclasses.fields(cls)}
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        field, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or field not in known:
            raise UsageError(
                f"{name} has no field {field!r} (in {part!r}); it has {', '.join(sorted(known)) or 'none'}"
            )
        values[field] = _value(name, field, value, hints[field])
    return values


def changes(words: Iterable[str]) -> dict[str, Any]:
    """ "field=value" words as keyword arguments; a value that is no Python literal stays text.

    Raises:
        UsageError: a word without "=".
    """
    values: dict[str, Any] = {}
    for word in words:
        name, equals, text = (piece.strip() for piece in word.partition("="))
        if not equals or not name.isidentifier():
            raise UsageError(f"{word!r} cannot be meant; write field=value, e.g. epochs=3")
        try:
            values[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[name] = text
    return values


def one_of(owner: str, field: str, value: Any, known: Iterable[str]) -> None:
    """Raise UsageError where `value`, given for a field of the thing called `owner`, is none of the `known` words."""
    if value not in (words := tuple(known)):
        raise UsageError(f"{owner}: {field}={value!r} is unknown. Give one of: {', '.join(words)}.")


def _value(name: str, field: str, text: str, hint: Any) -> Any:
    choices = get_args(hint)
    if choices and all(isinstance(choice, str) for choice in choices):
        if text not in choices:
            raise UsageError(f"{name}: {field}={text!r} is not one of {', '.join(choices)}")
        return text
    if hint is str:
        return text
    if hint is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    kinds = choices or (hint,)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text  # which a field may be, too: low=30%
    if float in kinds and int not in kinds and type(value) is int:
        value = float(value)
    if type(value) not in kinds:
        known = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
        raise UsageError(f"{name}: {field}={text!r} is not {known}")
    return value
