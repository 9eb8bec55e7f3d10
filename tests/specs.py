"""Flat keywords as specs, for tests that vary one argument at a time."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from vlmsift.specs import EngineSpec, ModelSpec, PoolSpec
from vlmsift.train.recipes import Recipe


def with_specs(**flat: Any) -> dict[str, Any]:
    """`pool` (or `data`), `model` and `engine` made of the fields of their specs that are among the keywords.

    Fields of a recipe become `changes`.
    """
    for name, spec in (("pool", PoolSpec), ("data", PoolSpec), ("model", ModelSpec), ("engine", EngineSpec)):
        if name not in flat and name != "engine":
            continue
        mine = {field.name: flat.pop(field.name) for field in fields(spec) if field.name != name and field.name in flat}
        if mine:
            flat[name] = spec(flat[name], **mine) if name in flat else spec(**mine)
    recipe = {field.name: flat.pop(field.name) for field in fields(Recipe) if field.name in flat}
    return {**flat, "changes": {**flat.get("changes", {}), **recipe}} if recipe else flat
