"""A run in a store that speaks S3 and answers 503, hangs, or breaks off in the middle of a write."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Home
from tests.object_store import BUCKET, serve_s3
from vlmsift import folders
from vlmsift.runs import Run

pytest.importorskip("moto", reason="moto serves S3 here; the extra dev brings it")

XML = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Faults:
    """Stands before a server: each `every`-th request of a method fails in one of three ways."""

    def __init__(self, application: Any) -> None:
        self.application, self.count, self.done = application, itertools.count(), Counter[str]()
        self.kind, self.every = "none", 3

    def __call__(self, environ: Any, respond: Callable[..., Any]) -> Any:
        if self.kind == "none" or next(self.count) % self.every:
            return self.application(environ, respond)
        self.done[environ["REQUEST_METHOD"]] += 1
        if self.kind == "breaks":
            environ["wsgi.input"].read(max(1, int(environ.get("CONTENT_LENGTH") or 1) // 2))
            raise ConnectionResetError("in the middle of a request")
        if self.kind == "stalls":
            time.sleep(1.5)
        respond("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(XML)))])
        return [XML]


@pytest.mark.parametrize("kind", ["503", "stalls", "breaks"])
def test_a_store_that_fails(kind: str, home: Home, tmp_path: Path, monkeypatch: Any) -> None:
    made: list[Faults] = []

    def wrap(application: Any) -> Faults:
        made.append(Faults(application))
        return made[0]

    monkeypatch.setattr(folders, "PAUSE", 0.01)
    monkeypatch.setattr(folders, "PATIENCE", 0.75 if kind == "stalls" else 60)
    with serve_s3(wrap) as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        home.here  # noqa: B018, made before anything fails
        made[0].kind, made[0].every = kind, {"503": 3, "stalls": 23, "breaks": 11}[kind]
        place = f"s3://{BUCKET}/{kind}/run"
        run = home.score(place)
        made[0].kind = "none"
        assert sum(made[0].done.values()) > 3, "no fault came: ask for more"
        assert run.place == place
        assert Run.open(place).sessions()
        assert run.signals_hash() == home.here.signals_hash()
        home.assert_whole(place, home.here)
