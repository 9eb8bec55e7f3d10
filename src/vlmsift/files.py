"""Files on a disk. In: finished bytes, or whatever a library writes to a path. Out: files whole or absent, JSON.

Everything goes to a hidden temporary name first, which holds the machine, the process and a random number: so two that
write the same file never meet, the last one's is what stays, and both are whole. What a killed process left is removed
by a later one that can prove that: on the same machine, where no process of that number lives. Nobody else touches it.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from vlmsift.errors import RunMismatch, UsageError

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<machine>[\w-]+)\.(?P<process>\d+)\.[0-9a-f]{8}\.tmp")
RUN_CURE = (
    "Give the run's own settings to resume it, another --out folder to begin a new run, or --overwrite to throw its "
    "signals and selections away."
)


def add_file(path: Path, content: bytes | memoryview) -> bool:
    """Write a file where there is none. Of several at the same time one is told True. Raises as `check_output`."""
    check_output(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        temporary.write_bytes(content)
        _sync(temporary)
        _link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)
    return True


@contextmanager
def replacing(path: Path, ours: Callable[[str], bool] = lambda name: False, *, sync: bool = True) -> Iterator[Path]:
    """A temporary name to write a file or folder to; at the end it becomes `path`, on an error it goes.

    Args:
        ours: whether a name in the folder `path` may go with it; a folder that holds another is refused (UsageError).
        sync: bring it to the disk first. False = the caller does, before it tells anybody of it.
    """
    path = path.resolve() if path.is_symlink() else path
    check_output(path, ours=ours)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        yield temporary
        if sync:
            sync_all(temporary)
        if path.is_dir() and temporary.is_dir():
            check_output(path, ours=ours)  # it may have taken hours to come here
            aside = temporary_name(path)  # a folder cannot be replaced in one step
            os.replace(path, aside)
            try:
                os.replace(temporary, path)
            except OSError:
                os.replace(aside, path)
                raise
            _discard(aside)
        else:
            os.replace(temporary, path)
        if sync:
            _sync(path.parent)
    finally:
        _discard(temporary)


def check_output(path: Path, *, folder: bool = False, ours: Callable[[str], bool] = lambda name: True) -> None:
    """Raise UsageError where nothing may be written to `path`.

    That is a device, a pipe or a socket; a name below a file; a file, where a `folder` is meant; and a folder with
    something in it that is not `ours`, by its name.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except NotADirectoryError:
        above = next(parent for parent in path.parents if parent.exists())
        raise UsageError(f"{path} cannot be: {above} is a file. Name another place.") from None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise UsageError(f"{path} is a device, a pipe or a socket, and nothing is written to one. Name another place.")
    if folder and stat.S_ISREG(mode):
        raise UsageError(f"{path} is a file, and a folder is to be written. Name another one.")
    if stat.S_ISDIR(mode) and (others := sorted(name for name in os.listdir(path) if not ours(name))):
        raise UsageError(f"{path} is a folder that holds other things ({others[0]!r}). Name a new or empty one.")


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what processes of this machine, that live no more, left in `folder` when they wrote `name` or anything."""
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        match = _TEMPORARY.fullmatch(path.name)
        if match and match["machine"] == _machine() and name in (None, match["name"]) and _is_gone(match["process"]):
            _discard(path)


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is being written, or was when somebody was killed."""
    return _TEMPORARY.fullmatch(name) is not None


def temporary_name(path: Path) -> Path:
    """A name beside `path` that nobody else has."""
    return path.with_name(f".{path.name}.{_machine()}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


@cache
def _machine() -> str:
    """Where a process number means one process: a host, and a container on it, which may share the host's name."""
    try:
        space = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        space = 0
    return re.sub(r"[^\w-]", "-", platform.node(), flags=re.ASCII)[:40] + f"-{space}"


def _is_gone(process: str) -> bool:
    if os.name != "posix":  # elsewhere a signal 0 is no question
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # somebody else's
        pass
    return False


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> None:
    """Give a file its name, which must be free: unlike a rename, a link fails where it is not."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: here another may come in between
        if path.exists():
            raise FileExistsError(path) from None
        os.replace(temporary, path)


def sync_all(path: Path) -> None:
    """Bring a file, or a folder with all that is in it, to the disk; what does not exist is there already."""
    if path.is_file():
        _sync(path)
    for place, _, names in os.walk(path):
        for name in (*names, "."):
            _sync(Path(place) / name)


def _sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    posix = os.name == "posix"
    if not posix and path.is_dir():  # there a folder cannot be opened
        return
    handle = os.open(path, os.O_RDONLY if posix else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """`replacing` in one expression."""
    with replacing(path) as temporary:
        write(temporary)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    write_atomically(path, lambda temporary: temporary.write_bytes(text.encode("utf-8")))


def write_json(path: Path, value: Any) -> None:
    """Write `plain(value)` as a JSON file, whole or not at all."""
    write_text(path, as_json(value))


def as_json(value: Any) -> str:
    """`plain(value)` as the text of a JSON file."""
    return json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises FileNotFoundError, and UsageError where it cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read as JSON ({error}). Restore it, or move it away.") from error


def plain(value: Any) -> Any:
    """`value` as it comes back from a JSON file: tuples as lists, keys as text, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}; lists are values."""
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    return {k: v for key, item in value.items() for k, v in flat(item, f"{prefix}.{key}" if prefix else key).items()}


def compare(
    folder: str | Path, found: Mapping[str, Any], asked: Mapping[str, Any], what: str = "run", cure: str = RUN_CURE
) -> None:
    """Raise RunMismatch naming each dotted key in which what is `asked` differs from what was `found` in `folder`.

    One that is null is as good as none; `what` names in the message what is there.
    """
    before, after = flat(plain(found)), flat(plain(asked))  # dotted key -> value
    differing = [key for key in {**before, **after} if _show(before, key) != _show(after, key)]
    if differing:
        shown = [f"  {key}: in the {what} {_show(before, key)}, asked for {_show(after, key)}" for key in differing]
        raise RunMismatch("\n".join([f"{folder} holds a {what} with other settings:", *shown, cure]))


def _show(values: Mapping[str, Any], key: str) -> str:
    return "nothing" if values.get(key) is None else json.dumps(values[key], ensure_ascii=False)
