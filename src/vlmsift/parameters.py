"""What users type, checked in one place. In: words, keyword arguments, mappings. Out: typed values, or one sentence."""

from __future__ import annotations

import ast
import dataclasses
import math
import types
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from numbers import Number
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from vlmsift.errors import UsageError

Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
"""More than nothing, at most everything."""
Chance = Annotated[float, msgspec.Meta(gt=0, lt=1)]
"""Neither never nor always."""
Count = Annotated[int, msgspec.Meta(ge=1)]
Natural = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Seed = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
_BOUNDS = {
    "gt": "above",
    "ge": "at least",
    "lt": "below",
    "le": "at most",
    "min_length": "of at least",
    "multiple_of": "a multiple of",
}
_KINDS = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    Path: "text",
    type(None): "none",
}
_Made = TypeVar("_Made")


class Parameters:
    """Base of the frozen dataclasses that users fill in: making one checks each field against its type and bounds.

    A subclass that checks more, such as two fields against each other, calls `super().__post_init__()` first. A field
    of a type that has no words, such as another object, is taken as it is.
    """

    def __post_init__(self) -> None:
        cls: Any = type(self)
        owner = getattr(self, "name", cls.__name__)
        for name, hint in field_types(cls).items():
            object.__setattr__(self, name, check_value(owner, name, getattr(self, name), hint))


@cache
def field_types(cls: Any) -> dict[str, Any]:
    """The fields of a dataclass with their types, bounds included."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def check_value(owner: str, field: str, value: Any, hint: Any) -> Any:
    """`value` as its type has it (1 is 1.0 where a float is wanted).

    Raises:
        UsageError: it is of another type or out of bounds; says what may be given.
    """
    if not (wanted := describe(hint)):
        return value
    try:
        bare = value.item() if isinstance(value, Number) and hasattr(value, "item") else value
        found = msgspec.convert(_text_of(bare), plain := _text_type(hint))
        if isinstance(found, float) and not math.isfinite(found):
            raise msgspec.ValidationError
        return found if plain == hint else value  # a path stays a path
    except msgspec.ValidationError:
        raise UsageError(f"{owner}: {field}={value!r} cannot be meant; give {wanted}") from None


def _text_of(value: Any) -> Any:
    """A value with its paths as text."""
    if isinstance(value, (list, tuple)):
        return [_text_of(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


@cache
def _text_type(hint: Any) -> Any:
    """A type with text in the place of paths, which msgspec does not know; itself where it has none."""
    if hint is Path:
        return str
    if get_origin(hint) in (Union, types.UnionType):
        return Union[tuple(_text_type(kind) for kind in get_args(hint))]  # noqa: UP007 - of a tuple
    if get_origin(hint) is Sequence:
        return list[_text_type(get_args(hint)[0])]  # type: ignore[misc]
    if get_origin(hint) is Annotated:
        inner, *bounds = get_args(hint)
        parts = (_text_type(inner), *bounds)
        return Annotated[parts]
    return hint


def parse_fields(cls: Any, owner: str, text: str) -> dict[str, Any]:
    """ "field=value,field=value" as keyword arguments of the dataclass `cls`, called `owner` in errors.

    Raises:
        UsageError: an unknown field, or a value that its type does not take.
    """
    known = field_types(cls)
    values: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        field, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or field not in known:
            raise UsageError(
                f"{owner} has no field {field!r} (in {part!r}); it has {', '.join(sorted(known)) or 'none'}"
            )
        values[field] = check_value(owner, field, _read(value, known[field]), known[field])
    return values


def write_word(name: str, value: Any, default: Any) -> str:
    """The word "name:field=value,..." of a dataclass's fields that are not as in `default`; `parse_fields` reads it."""
    fields = (field.name for field in dataclasses.fields(value))
    changed = [f"{field}={new}" for field in fields if (new := getattr(value, field)) != getattr(default, field)]
    return f"{name}:{','.join(changed)}" if changed else name


def parse_changes(words: Iterable[str]) -> dict[str, Any]:
    """ "field=value" words as keyword arguments; a value that is no Python literal stays text.

    Raises:
        UsageError: a word without "=".
    """
    values: dict[str, Any] = {}
    for word in words:
        name, equals, text = (piece.strip() for piece in word.partition("="))
        if not equals or not name.isidentifier():
            raise UsageError(f"{word!r} cannot be meant; write field=value, e.g. epochs=3")
        values[name] = _literal(text)
    return values


def make(cls: type[_Made], owner: str, values: Any) -> _Made:
    """The dataclass `cls` from what a file holds; its fields may be dataclasses, or lists of them, themselves.

    A bare value stands for a mapping with the first field alone, or for a list of one.

    Raises:
        UsageError: an unknown key, one that is missing, or a value that cannot be meant; says where in `owner`.
    """
    known, fields = field_types(cls), dataclasses.fields(cls)  # type: ignore[arg-type]
    if not isinstance(values, Mapping):
        values = {fields[0].name: values}
    if unknown := [key for key in values if key not in known]:
        raise UsageError(f"{owner} has no {unknown[0]!r}; it has {', '.join(known)}")
    required = [one.name for one in fields if one.default is one.default_factory is dataclasses.MISSING]
    if missing := [key for key in required if key not in values]:
        raise UsageError(f"{owner}: {missing[0]!r} is missing; add it")
    made = {key: _nested(owner, key, value, known[key]) for key, value in values.items()}
    try:
        return cls(**made)
    except UsageError as error:
        raise UsageError(f"{owner}: {error}") from error


def _nested(owner: str, field: str, value: Any, hint: Any) -> Any:
    """A value from a file as its type has it."""
    if value is None and type(None) in get_args(hint):
        return None
    inner = _inner(hint)
    if get_origin(inner) is tuple:
        entries, kind = value if isinstance(value, (list, tuple)) else [value], get_args(inner)[0]
        value = tuple(_nested(owner, f"{field}.{place}", entry, kind) for place, entry in enumerate(entries))
    elif isinstance(inner, type) and dataclasses.is_dataclass(inner) and not isinstance(value, inner):
        return make(inner, f"{owner}: {field}", value)
    return check_value(owner, field, value, hint)


def _inner(hint: Any) -> Any:
    """A type without its bounds and without None."""
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    bounded = get_origin(hint) is Annotated
    optional = get_origin(hint) in (Union, types.UnionType) and len(kinds) == 1
    return _inner(kinds[0]) if bounded or optional else hint


@cache
def describe(hint: Any) -> str:
    """What may be given for a type, in words; "" where it is none that a user types."""
    if get_origin(hint) is Annotated:
        inner, *more = get_args(hint)
        if words := next((meta.title for meta in more if meta.title), None):
            return str(words)
        bounds = [
            f"{word} {bound:g}"
            for meta in more
            for key, word in _BOUNDS.items()
            if (bound := getattr(meta, key, None)) is not None
        ]
        return " ".join(filter(None, (describe(inner), " and ".join(bounds))))
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [describe(one) for one in get_args(hint)]
        return " or ".join(dict.fromkeys(kinds)) if all(kinds) else ""
    if get_origin(hint) in (tuple, Sequence):
        inner = describe(get_args(hint)[0])
        return f"a list of {inner}" if inner else ""
    if get_origin(hint) is dict:
        return "keys and values"
    return _KINDS.get(hint, "")


def _read(text: str, hint: Any) -> Any:
    """The text of a word as the value that its type calls for."""
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if kinds == (str,) or any(get_origin(kind) is Literal and text in get_args(kind) for kind in kinds):
        return text
    if bool in kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"
    return None if type(None) in kinds and text.lower() == "none" else _literal(text)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
