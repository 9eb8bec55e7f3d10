"""What of a sample's way into the model needs no device, done where samples are encoded, beside each other.

In: an encoded sample. Out: the same in the model's precision, with its positions where the model would work them out
sample by sample from the sizes of the images (multimodal rotary positions: the Qwen-VL families and others).
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vlmsift.models.adapter import Adapter
from vlmsift.models.encode import Encoded

POSITIONS = "position_ids"
_FIND = "compute_3d_position_ids"  # what transformers calls the method that finds them


@dataclass(frozen=True)
class Prepare:
    """Prepares samples for one model. It holds no weights, and travels to worker processes."""

    dtype: torch.dtype  # of the first layer's weights
    finder: Any = None  # the model's body without its parts, code and configuration; None = it finds positions itself

    def __call__(self, encoded: Encoded) -> Encoded:
        """The sample, its numbers rounded as the adapter would do; token ids and masks as they are."""
        rows, images = (
            {name: value.to(self.dtype) if value.is_floating_point() else value for name, value in group.items()}
            for group in (encoded.rows, encoded.images)
        )
        if POSITIONS not in rows and (positions := self._positions(encoded)) is not None:
            rows[POSITIONS] = positions
        return replace(encoded, rows=rows, images=images)

    def _positions(self, encoded: Encoded) -> Tensor | None:
        """(3, T): time, height, width of every position; None where the model does not count so."""
        if self.finder is None:
            return None
        known = {name: value[None] for name, value in encoded.rows.items()} | encoded.images  # (1, T); as they are
        known["input_ids"] = encoded.input_ids[None]  # (1, T)
        find = getattr(self.finder, _FIND)
        try:
            found = find(**{name: known.get(name) for name in inspect.signature(find).parameters})  # (3, 1, T)
        except AttributeError:  # it needs more of the model than its configuration
            return None
        return torch.arange(len(encoded)).expand(3, -1) if found is None else found[:, 0]


def prepare_for(adapter: Adapter) -> Prepare:
    """What samples need before this model takes them."""
    weights = next(adapter.model.get_input_embeddings().parameters())
    base = adapter.model.base_model
    if not hasattr(base, _FIND):
        return Prepare(weights.dtype)
    finder: Any = object.__new__(type(base))  # not built: a second set of weights would be as large as the first
    nn.Module.__init__(finder)
    finder.config, finder.rope_deltas = base.config, None
    return Prepare(weights.dtype, finder)
