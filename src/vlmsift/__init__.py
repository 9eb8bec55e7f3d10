"""Find the image-instruction samples worth fine-tuning a vision-language model on.

Importing this is cheap: torch and the rest come in when a function is called.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlmsift.augment import masked_states
    from vlmsift.choosing.selection import Selection
    from vlmsift.methods import METHODS, sift
    from vlmsift.models import Adapter, open_model
    from vlmsift.pools import Pool, open_pool
    from vlmsift.runs.run import Run
    from vlmsift.scoring.score import score
    from vlmsift.selecting import select
    from vlmsift.selectors import Top
    from vlmsift.specs import EngineSpec, ModelSpec, PoolSpec
    from vlmsift.types import Sample, Signal, Turn

__version__ = "0.1.0"

_PLACES = {
    "METHODS": "vlmsift.methods",
    "Adapter": "vlmsift.models",
    "EngineSpec": "vlmsift.specs",
    "ModelSpec": "vlmsift.specs",
    "Pool": "vlmsift.pools",
    "PoolSpec": "vlmsift.specs",
    "Run": "vlmsift.runs.run",
    "Sample": "vlmsift.types",
    "Selection": "vlmsift.choosing.selection",
    "Signal": "vlmsift.types",
    "Top": "vlmsift.selectors",
    "Turn": "vlmsift.types",
    "masked_states": "vlmsift.augment",
    "open_model": "vlmsift.models",
    "open_pool": "vlmsift.pools",
    "score": "vlmsift.scoring.score",
    "select": "vlmsift.selecting",
    "sift": "vlmsift.methods",
}

__all__ = [
    "METHODS",
    "Adapter",
    "EngineSpec",
    "ModelSpec",
    "Pool",
    "PoolSpec",
    "Run",
    "Sample",
    "Selection",
    "Signal",
    "Top",
    "Turn",
    "__version__",
    "masked_states",
    "open_model",
    "open_pool",
    "score",
    "select",
    "sift",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'vlmsift' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
