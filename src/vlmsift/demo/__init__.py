"""The embedded model and data: handwritten digits, questions about them, and a small LLaVA that answers them."""

from pathlib import Path

MODEL_PATH = Path(__file__).parent / "model"  # loads by the Auto classes like any other model, without a network
START_PATH = Path(__file__).parent / "start"  # after a sixth of the training: what demo and experiments fine-tune
