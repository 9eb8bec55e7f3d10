"""Batches to a CUDA device and numbers back, while it works on something else.

In: a batch in the host's memory, or what was measured of one. Out: the same on the other side, when it is asked for.
Copies to the device run on a stream of their own, from pinned memory; results are copied where the device has reached
them, and waited for alone. On other devices all is copied at once, by whoever measures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vlmsift.passes.measure import fetched
from vlmsift.types import Batch


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch, here and on its way to where the model is."""

    host: Batch
    moved: Batch  # the same batch where nothing is to be moved
    event: Any = None  # of the end of the copy

    def arrived(self) -> Batch:
        """The batch on the device; work that is given to the device from now on finds it there."""
        if self.event is not None:
            stream = torch.cuda.current_stream(self.moved.labels.device)
            stream.wait_event(self.event)
            for tensor in (*self.moved.inputs.values(), *_masks(self.moved).values()):
                tensor.record_stream(stream)  # its memory is the other stream's, which must not take it back too early
        return self.moved


class Transfer:
    """The way to one device and back."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        make: Any = torch.cuda.Stream
        self.stream = make(device) if self.beside else None

    @property
    def beside(self) -> bool:
        """Whether copies and the model's work can go on beside each other."""
        return self.device.type == "cuda"

    def send(self, host: Batch) -> Sent:
        """Begin to copy a batch to the device; may be called in another thread than the model's."""
        if self.stream is None:
            return Sent(host, host)
        pinned = {name: value.pin_memory() for name, value in host.inputs.items()}  # a pinned one stays
        masks: dict[str, Any] = {name: value.pin_memory() for name, value in _masks(host).items()}
        with torch.cuda.stream(self.stream):
            moved = {name: value.to(self.device, non_blocking=True) for name, value in pinned.items()}
            masks = {name: value.to(self.device, non_blocking=True) for name, value in masks.items()}
            event = self.stream.record_event()
        return Sent(host, replace(host, inputs=moved, host=host, **masks), event)

    def fetch(self, measured: Mapping[Any, Tensor]) -> Callable[[], dict[Any, Tensor]]:
        """Begin to copy results to the host's memory. Out: what waits for these alone, and gives them."""
        if self.stream is None:
            return lambda: fetched(dict(measured))
        with torch.cuda.device(self.device):
            copied = {need: value.to("cpu", non_blocking=True) for need, value in measured.items()}  # to pinned memory
            event = torch.cuda.current_stream().record_event()

        def arrived() -> dict[Any, Tensor]:
            event.synchronize()
            return copied

        return arrived


def _masks(batch: Batch) -> dict[str, Tensor]:
    names = ("labels", "image_mask", "image_index", "special_mask", "valid", "query_mask")
    return {name: getattr(batch, name) for name in names}
