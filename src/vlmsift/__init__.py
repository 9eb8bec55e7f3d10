"""Find the image-instruction samples worth fine-tuning a vision-language model on.

Importing this is cheap: torch and the rest come in when a function is called.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlmsift.augment import masked_states
    from vlmsift.methods import METHODS, sift
    from vlmsift.models import Adapter, open_model
    from vlmsift.pipeline import PoolSelection, export, score, select
    from vlmsift.pools import Pool, open_pool
    from vlmsift.runs.run import Run
    from vlmsift.types import Sample, Selection, Signal, Turn

__version__ = "0.1.0"

_PLACES = {
    "METHODS": "vlmsift.methods",
    "Adapter": "vlmsift.models",
    "Pool": "vlmsift.pools",
    "PoolSelection": "vlmsift.pipeline",
    "Run": "vlmsift.runs.run",
    "Sample": "vlmsift.types",
    "Selection": "vlmsift.types",
    "Signal": "vlmsift.types",
    "Turn": "vlmsift.types",
    "export": "vlmsift.pipeline",
    "masked_states": "vlmsift.augment",
    "open_model": "vlmsift.models",
    "open_pool": "vlmsift.pools",
    "score": "vlmsift.pipeline",
    "select": "vlmsift.pipeline",
    "sift": "vlmsift.methods",
}

__all__ = [
    "METHODS",
    "Adapter",
    "Pool",
    "PoolSelection",
    "Run",
    "Sample",
    "Selection",
    "Signal",
    "Turn",
    "__version__",
    "export",
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
