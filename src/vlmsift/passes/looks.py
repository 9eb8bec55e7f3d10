"""Where a model looks while it answers, and which tokens a masking takes away. In: one sample. Out: a `Look`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlmsift.models import Adapter, Encoder
from vlmsift.passes.attention_received import AttentionReceived
from vlmsift.passes.capture import Capture
from vlmsift.passes.masking import Masking, choose_tokens
from vlmsift.passes.measure import measure
from vlmsift.passes.places import ImagePlaces, Size
from vlmsift.types import Sample


@dataclass(frozen=True)
class Look:
    """An answer's look at its sample's I image tokens, in the order of the text."""

    picture: NDArray[np.int64]  # (I,) which picture of the sample
    boxes: NDArray[np.float32]  # (I, 4) left, top, right, bottom as shares of the picture; NaN: stands for no place
    attention: NDArray[np.float32]  # (I,) share of an answer row's attention, mean over rows, heads and layers
    masked: NDArray[np.bool_]  # (I,) taken away by the masking; none without one


def look(places: ImagePlaces, encoder: Encoder, sample: Sample, sizes: list[Size], masking: Masking | None) -> Look:
    """How the model that `places` knows looks at a sample with pictures of these `sizes`, while it gives the answer.

    Raises SampleError where the sample cannot be encoded.
    """
    adapter: Adapter = places.adapter
    batch = encoder.collate([encoder.encode(sample)])
    answer = AttentionReceived()
    ranking = answer if masking is None else masking.ranking(adapter.depth)
    with Capture(adapter) as capture:
        measured = measure(capture, batch, [answer, ranking])
    image = batch.image_mask[0]  # (T,)
    masked: Any = image & False
    if masking is not None:
        masked = choose_tokens(masking, batch, measured[ranking])[0]  # (T,)
    return Look(
        batch.image_index[0][image].numpy(),
        places(sample, sizes).numpy(),
        measured[answer][0][image].numpy(),
        masked[image].numpy(),
    )
