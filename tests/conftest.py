"""What every test stands on: no network, one thread per worker, and tiny models built once (`toy_path`).

In: nothing. Out: environment variables set before torch and transformers are imported, and the session's fixtures.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Read at import time by torch, transformers and tokenizers, so they are set before any of the three comes in.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")

# torchvision lies in a folder of its own: beside a CPU-only torch it breaks every program that does not repair it
sys.path.append(str(Path(__file__).parents[1] / ".test-packages"))

import pytest
import torch

from tests.object_store import BUCKET, serve_s3
from tests.toys import NEEDS_TORCHVISION, make_toy

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def repair_torchvision() -> bool:
    """Make torchvision importable on a CPU-only torch; True if it is there at all.

    The only wheel for Linux is built for CUDA. Beside a CPU-only torch its compiled library does not load, so two
    operators are never declared and the import fails on them. Declared by hand they are never called here.
    """
    if importlib.util.find_spec("torchvision") is None:
        return False
    try:
        import torchvision
    except RuntimeError:
        for operator in ("nms", "qnms"):
            arguments = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{operator}", arguments)
        import torchvision  # noqa: F401
    return True


HAS_TORCHVISION = repair_torchvision()


@pytest.fixture(scope="module", autouse=True)
def collect_little() -> None:
    """What a file's tests find loaded is left out of later garbage collections.

    Every training ends with a full collection (accelerate frees its memory so), and every one would walk through all
    of torch and transformers again: .3 s each, a tenth of the suite.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def toy_path(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`toy_path(family)` -> the folder of that family's toy, built at first asking, once per worker."""
    root = tmp_path_factory.mktemp("toys")
    built: dict[str, Path] = {}

    def path(family: str) -> Path:
        if family in NEEDS_TORCHVISION and not HAS_TORCHVISION:
            pytest.skip(f"the processor of {family} needs torchvision: pip install --no-deps torchvision==0.28.0")
        if family not in built:
            built[family] = make_toy(family, root / family)
        return built[family]

    return path


@pytest.fixture(scope="session")
def s3_variables() -> Iterator[dict[str, str]]:
    """The environment of a client of a local store that speaks S3; one store per worker."""
    pytest.importorskip("moto", reason="moto serves S3 here; the extra dev brings it")
    with serve_s3() as variables:
        yield variables


@pytest.fixture
def s3_url(s3_variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A place of this test's own in that store."""
    for name, value in s3_variables.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{tmp_path.name}"
