"""The kinds of needs, by what it takes to meet them: a look at attention, a look at a module, another run.

In: a batch. Out: who looks while the first pass runs, or what is changed when the decoder runs again. `measure` knows
these kinds, `loss.Head` (read off the first pass's last states), and no single need. A need that takes gradients would
be one more kind here, with a pass of its own in `measure` and its price in `cost`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from vlmsift.models import Adapter
from vlmsift.passes.attention import Observer
from vlmsift.passes.intervene import Intervention
from vlmsift.types import Batch, Need


class Observe(Need, ABC):
    """A need that an observer of the first pass's attention rows meets. Costs no forward."""

    __slots__ = ()

    @abstractmethod
    def rows(self, batch: Batch) -> Tensor:
        """(B, T) bool: the query rows to look at. Needs with equal rows share the work."""

    @abstractmethod
    def observer(self, batch: Batch, depth: int) -> Observer:
        """A fresh observer; `depth` is L."""


class Watcher(ABC):
    """Reduces what some modules give out, or what enters them, as it comes, to what a need asks for."""

    modules: Mapping[Any, nn.Module]  # key -> module to look at
    entering = False  # look at the states that enter the modules, not at their output

    @abstractmethod
    def take(self, key: Any, output: Tensor) -> None:
        """Take in what the module of that key gave out, or was given."""

    @abstractmethod
    def result(self) -> Tensor:
        """The measurement, float32."""


class Watch(Need, ABC):
    """A need that a look at modules in the first pass meets. Costs no forward."""

    __slots__ = ()

    @abstractmethod
    def watcher(self, adapter: Adapter, batch: Batch) -> Watcher:
        """A fresh watcher."""


class Rerun(Need, ABC):
    """The answer loss when the decoder runs again from a layer, changed: (B,) float32 nats; NaN where undefined.

    Costs (L - start) / L of a text forward, a whole one where the decoder adds features above `start` (Qwen3-VL).
    """

    __slots__ = ()

    def start(self, depth: int) -> int:
        """The first layer that the change reaches, of L = `depth`."""
        return 0

    def ranking(self, depth: int) -> Observe | None:
        """What the first pass has to observe for the change to be known; None = nothing."""
        return None

    def applies(self, adapter: Adapter, batch: Batch) -> bool:
        """Whether the change means anything for a sample of the batch; where not, the run is spared.

        Raises UsageError where it means nothing for this model.
        """
        return True

    @abstractmethod
    def intervene(self, adapter: Adapter, batch: Batch, received: Tensor | None) -> Intervention:
        """The change; its `layer` is `start`. `received` is what `ranking` asked for."""

    def cost(self, depth: int) -> float:
        return (depth - self.start(depth)) / depth
