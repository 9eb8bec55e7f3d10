"""What a run says of itself: run.json, written once, and beside it a record of each start.

    run/run.json                              the identity and how the first start measured; never written again
    run/sessions/<time>-<host>-<pid>.json     one start of one worker, with what it proved of its model

Nothing is decided by a clock, a host or a process number here: they are for the reader, and a name that is taken gets a
number.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from itertools import count
from typing import Any

import msgspec

from vlmsift.errors import UsageError
from vlmsift.files import as_json, plain
from vlmsift.folders import Folder

SCHEMA = 2  # version of the folder's layout, written to run.json; up to 1 the sessions were in it
INSIDE = "checkpoints"  # folder inside a run for the runs of the checkpoints that it was joined from
SELECTION = b"vlmsift.made_by"  # key in the metadata of a saved selection: how it was made
PART = re.compile(r"signals/part-(\d{6,})\.parquet")
RECORD = "run.json"
SESSIONS = "sessions/"
SESSION = re.compile(r"sessions/\d{8}T\d{6}Z-[\w-]+-\d+(-\d+)?\.json", re.ASCII)

_LATER = ("image_processor",)  # of a model, since layout 2


class _Layout(msgspec.Struct):
    schema: int


# what no run.json may lack
_DATA = msgspec.defstruct("_Data", [("fingerprint", str)])
_SIGNALS = ("signals", dict[str, dict[str, Any]])
_IDENTITY = msgspec.defstruct("_Identity", [("data", _DATA), ("rows", int), ("part_size", int), _SIGNALS])
_SETTINGS = msgspec.defstruct("_Settings", [("identity", _IDENTITY), ("info", dict[str, Any])])


def read_record(home: Folder) -> dict[str, Any]:
    """What run.json holds. Raises UsageError where there is none, it is damaged, or of a newer version."""
    place = f"{home.place}/{RECORD}"
    try:
        record: dict[str, Any] = json.loads(home.read(RECORD))
        version = msgspec.convert(record, _Layout).schema
        if version <= SCHEMA:
            msgspec.convert(record, _SETTINGS)
    except FileNotFoundError:
        told = f"{home.place} is no run: it has no {RECORD}"
        raise UsageError(f"{told}. Name the --out folder of `vlmsift score`.") from None
    except (ValueError, RecursionError, NotADirectoryError, IsADirectoryError) as error:
        cure = "Restore it, or score into another --out folder."
        raise UsageError(f"{place} cannot be read as a run's settings ({error}). {cure}") from error
    if version > SCHEMA:
        raise UsageError(f"{place} is of a newer vlmsift (layout {version}, this one reads {SCHEMA}). Update vlmsift.")
    return record


def digest_of(identity: Mapping[str, Any]) -> str:
    """sha256 (hex) of an identity as run.json has it: each part carries it."""
    return hashlib.sha256(json.dumps(plain(identity), sort_keys=True).encode()).hexdigest()


def as_known(record: Mapping[str, Any], identity: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is asked for, without what a run of an earlier version did not write down."""
    if record["schema"] > 1 or "model" not in identity:
        return identity
    model = {key: value for key, value in identity["model"].items() if key not in _LATER}
    return {**identity, "model": model}


class Session:
    """One start of one worker, as it is written down."""

    def __init__(self, home: Folder, record: Mapping[str, Any]) -> None:
        self.home, self.record = home, {**plain(record)}
        host = re.sub(r"[^\w-]", "-", platform.node(), flags=re.ASCII)[:40]
        now = datetime.now(timezone.utc)
        self.record["started"] = now.isoformat(timespec="seconds")
        for number in count(1):
            again = f"-{number}" if number > 1 else ""  # another container may share host, number and second
            self.name = f"{SESSIONS}{now:%Y%m%dT%H%M%SZ}-{host}-{os.getpid()}{again}.json"
            if home.put_new(self.name, as_json(self.record).encode()):
                return

    def note_proof(self, proof: Mapping[str, Any]) -> None:
        """Add what was proved of the model that measures."""
        self.record.setdefault("proofs", []).append(plain(proof))
        self.home.put(self.name, as_json(self.record).encode())


def read_sessions(home: Folder, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every start of a run, as far as the clocks of its machines tell in order."""
    return [*record.get("sessions", []), *(json.loads(home.read(name)) for name in home.list(SESSIONS))]
