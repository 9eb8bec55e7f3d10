"""Files that appear whole or not at all, and the identity of what lies in a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vlmsift.errors import RunMismatch


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, bring it to the disk, and only then give it its name."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        _sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":
        _sync(path.parent)  # the name itself; elsewhere a folder cannot be opened


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def plain(value: Any) -> Any:
    """`value` as it will come back from run.json, so that (1, 2) equals [1, 2] on resume."""
    return json.loads(json.dumps(value))


def compare(folder: Path, ours: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise RunMismatch naming each dotted key that differs."""
    before, after = flat(ours), flat(asked)
    differing = [key for key in {**before, **after} if _show(before, key) != _show(after, key)]
    if differing:
        shown = [f"  {key}: in the run {_show(before, key)}, asked for {_show(after, key)}" for key in differing]
        cure = (
            "Give the run's own settings to resume it, another --out folder to begin a new run, "
            "or --overwrite to throw its signals and selections away."
        )
        raise RunMismatch("\n".join([f"{folder} holds a run with other settings:", *shown, cure]))


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}; lists are values."""
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    return {k: v for key, item in value.items() for k, v in flat(item, f"{prefix}.{key}" if prefix else key).items()}


def _show(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=False) if key in values else "nothing"
