"""Any Hugging Face vision-language model behind one face."""

from vlmsift.models.adapter import Adapter, adapt, open_model
from vlmsift.models.encode import Encoded, Encoder

__all__ = ["Adapter", "Encoded", "Encoder", "adapt", "open_model"]
