"""The makers of the embedded model, which stand in tools/ beside this folder and are no part of the package."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from tools.embedded_model.build import build
from tools.embedded_model.evaluate import encode

__all__ = ["build", "encode"]
