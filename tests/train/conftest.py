"""In: the toys. Out: one small pool, and it encoded for the toy LLaVA, once per worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers.utils import logging

from tests.sample_pools import llava_rows, write_pool
from tests.train.helpers import encoded
from vlmsift.train.data import EncodedData

logging.disable_progress_bar()


@pytest.fixture(scope="session")
def pool_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten samples, two of them without an image."""
    return write_pool(tmp_path_factory.mktemp("pool"), llava_rows(10, text_only=(3, 7)))


@pytest.fixture(scope="session")
def toy(toy_path: Callable[[str], Path]) -> Path:
    """The toy LLaVA."""
    return toy_path("llava")


@pytest.fixture(scope="session")
def data(pool_path: Path, toy: Path) -> EncodedData:
    """The pool, encoded for the toy."""
    return encoded(pool_path, toy)
