"""The exception tree is as its docstring draws it."""

from __future__ import annotations

import inspect

import pytest

from vlmsift import errors

CLASSES = {name: value for name, value in vars(errors).items() if inspect.isclass(value)}


def test_the_docstring_draws_every_class():
    drawn = {line.split("-- ")[-1].split()[0] for line in str(errors.__doc__).splitlines() if "-- " in line}
    assert drawn | {"VlmsiftError"} == set(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_all_of_it_is_caught_as_one(name):
    assert issubclass(CLASSES[name], errors.VlmsiftError)
    assert CLASSES[name].__doc__


@pytest.mark.parametrize(
    ("name", "builtin"), [("UsageError", ValueError), ("FormatError", ValueError), ("MissingExtra", ImportError)]
)
def test_some_are_what_python_calls_them_too(name, builtin):
    assert issubclass(CLASSES[name], builtin)
