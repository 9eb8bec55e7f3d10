"""Attention received per token, kept from forward to forward, so that a sample is ranked once.

In: training batches, or a pool and a scoring model. Out: (B, T) float32 for a batch whose samples are all known. A
sample is known by its tokens and pixels, because trainers do not hand ids to the model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlmsift.errors import FormatError
from vlmsift.files import replacing
from vlmsift.models import Adapter, Encoded
from vlmsift.passes.attention_received import AttentionReceived
from vlmsift.passes.capture import Capture
from vlmsift.passes.measure import measure
from vlmsift.types import Batch


@dataclass
class Rankings:
    """Key -> (T,) float32 attention received, without padding. Four bytes per token of every sample."""

    known: dict[bytes, NDArray[np.float32]] = field(default_factory=dict)

    def get(self, batch: Batch) -> Tensor | None:
        """(B, T) float32, 0 at padding; None unless every sample is known."""
        rows = [self.known.get(key) for key in keys(batch)]
        found = torch.zeros(batch.valid.shape, device=batch.valid.device)  # (B, T)
        for row, values in enumerate(rows):
            if values is None:
                return None
            found[row, batch.valid[row]] = torch.from_numpy(values).to(found)
        return found

    def put(self, batch: Batch, received: Tensor) -> None:
        """Keep what the samples of a batch received."""
        for row, key in enumerate(keys(batch)):
            self.known[key] = received[row, batch.valid[row]].cpu().numpy()  # (T,) of the sample alone

    def fill(self, adapter: Adapter, samples: Iterable[Encoded], ranking: AttentionReceived) -> Rankings:
        """Rank samples by a scoring model, one forward each; e.g. by the model that made a run. Returns itself."""
        encoder = adapter.encoder(lambda ref: ref)
        with Capture(adapter) as capture:
            for sample in samples:
                batch = encoder.collate([sample])
                self.put(batch, measure(capture, batch, [ranking])[ranking])
        return self

    def save(self, path: str | Path) -> Path:
        """Write a Parquet file that `load` reads: key and list of float32."""
        path = Path(path)
        values = pa.array([row.tolist() for row in self.known.values()], pa.list_(pa.float32()))
        table = pa.table({"key": pa.array(list(self.known), pa.binary()), "received": values})
        with replacing(path) as temporary:
            pq.write_table(table, temporary)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Rankings:
        """Read a file of `save`. Raises FormatError where it is something else."""
        try:
            table = pq.read_table(path, columns=["key", "received"])
        except (OSError, pa.ArrowInvalid) as error:
            raise FormatError(f"{path} holds no rankings ({error}); name a file that Rankings.save wrote") from error
        rows = zip(table["key"].to_pylist(), table["received"].to_pylist(), strict=True)
        return cls({key: np.asarray(values, np.float32) for key, values in rows})


def keys(batch: Batch) -> list[bytes]:
    """One key per sample: a hash of its tokens, and of its share of the pixels.

    A sample's share of the image tensor's rows is taken to be its share of the image tokens. Where that is no whole
    number (tiles of different kinds) the key is of no use to another batch, and the sample is ranked again.
    """
    ids = batch.inputs["input_ids"]
    pixels = batch.inputs.get("pixel_values")
    counts = batch.image_mask.sum(1).tolist()  # image tokens of each sample
    total, start, found = sum(counts), 0, []
    for row, count in enumerate(counts):
        digest = hashlib.blake2b(ids[row, batch.valid[row]].cpu().numpy().tobytes(), digest_size=16)
        if pixels is not None and count:
            part = pixels  # (images or patches of the batch, ...)
            if count * len(pixels) % total == 0:
                part = pixels[start : start + count * len(pixels) // total]
                start += len(part)
            digest.update(part.detach().float().cpu().contiguous().numpy().tobytes())
        found.append(digest.digest())
    return found
