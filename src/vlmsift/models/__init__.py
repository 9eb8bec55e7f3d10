"""Any Hugging Face vision-language model behind one face."""

from vlmsift.models.adapter import Adapter, adapt, look_inside
from vlmsift.models.encode import Encoded, Encoder, special_ids
from vlmsift.models.opening import open_model
from vlmsift.models.prepare import Prepare, prepare_for

__all__ = [
    "Adapter",
    "Encoded",
    "Encoder",
    "Prepare",
    "adapt",
    "look_inside",
    "open_model",
    "prepare_for",
    "special_ids",
]
