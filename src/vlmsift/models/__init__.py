"""Any Hugging Face vision-language model behind one face."""

from vlmsift.models.adapter import Adapter, adapt, look_inside, open_model
from vlmsift.models.encode import Encoded, Encoder, special_ids

__all__ = ["Adapter", "Encoded", "Encoder", "adapt", "look_inside", "open_model", "special_ids"]
