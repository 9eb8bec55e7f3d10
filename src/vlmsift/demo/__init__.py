"""The embedded model and data: handwritten digits, questions about them, and a small LLaVA that answers them."""

from __future__ import annotations

from pathlib import Path

MODEL_PATH = Path(__file__).parent / "model"
"""The embedded model's folder; it loads by the Auto classes like any other model, without a network."""

START_PATH = Path(__file__).parent / "start"
"""The same model after a sixth of the training: what the demo and the experiments fine-tune."""
