"""The data of all these tests, made once, and the stand-in for training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.experiment.bench import StandIn, write_data


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("comparison"))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return StandIn(monkeypatch)
