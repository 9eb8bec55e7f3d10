"""The words of the house as types: what goes in (Sample), what a model sees (Batch), what comes out (Signal).

Notation of every shape: B samples, T positions, L text layers, H attention heads, D hidden width. Losses are in nats.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self

Role = Literal["system", "user", "assistant"]
ImageRef = str | bytes
"""A path relative to the image root, or an encoded image (PNG, JPEG, ...) as bytes."""

IMAGE_MARK = "<image>"
"""Marks an image's place in a turn's text, in the order of `Sample.images`."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation; `IMAGE_MARK` in the text stands where an image goes."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One training record."""

    id: str
    index: int  # of its row in the pool
    turns: tuple[Turn, ...]
    images: tuple[ImageRef, ...]  # opened late
    source: str | None  # its task; None where the row names none
    row: Mapping[str, Any]  # the source record, exported untouched

    @property
    def answer(self) -> str:
        """The last assistant turn's text; empty where there is none."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "assistant"), "")


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples as one model call. All masks are bool (B, T); True means "yes"."""

    ids: tuple[str, ...]  # sample ids, length B
    inputs: Mapping[str, Any]  # exactly what `model(**inputs)` takes
    labels: Tensor  # (B, T) int64, the token id where supervised, -100 elsewhere
    image_mask: Tensor  # (B, T): the position holds an image feature
    image_index: Tensor  # (B, T) int64, which image of its sample a position belongs to; -1 for text
    special_mask: Tensor  # (B, T): the position holds a special token (bos, end of turn, ...), images excluded
    valid: Tensor  # (B, T): the position is not padding
    query_mask: Tensor  # (B, T): the *next* position is supervised, so this row's output is what the loss reads
    host: Batch | None = None  # the same with its masks in the host's memory, where these lie on a device

    @property
    def on_host(self) -> Batch:
        """Where to read what decides shapes: a number read from a device waits until all that it was told is done."""
        return self.host or self

    def __len__(self) -> int:
        return len(self.ids)


class Need:
    """A measurement that signals ask for: a small frozen dataclass, equal when it measures the same thing.

    One first pass (a forward of model and images) serves all needs of a batch; `passes.needs` has their kinds.
    """

    __slots__ = ()

    def cost(self, depth: int) -> float:
        """Text forwards that it takes beyond the first pass, in a decoder of L = `depth` layers."""
        return 0.0


Measured = Mapping[Any, "Tensor"]
"""What the passes measured on one batch: need -> tensor, (B,) or (B, K) float32."""


class Signal(ABC):
    """Base of all signals: what is kept per sample, a number or a short vector, with a unit and a direction.

    A subclass gives `name`, `unit`, `higher_means` (as class attributes, mostly) and `__call__`; the rest where it
    differs. In the house: class = file = column = command-line word, and a line in `signals/__init__.py`.
    """

    good: ClassVar[Literal["highest", "lowest"] | None] = None
    """The end at which good samples are expected, stated beforehand; None = neither, or a vector."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Column and command-line word."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """Unit of the value, e.g. "nats"."""

    @property
    @abstractmethod
    def higher_means(self) -> str:
        """A sentence for the report: what a higher value says about the sample."""

    @property
    def needs(self) -> tuple[Need, ...]:
        """Measurements that it is made from; they decide which passes run."""
        return ()

    @abstractmethod
    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        """(B,) float32, or (B, width) for a vector; NaN = undefined for this sample (null on disk, never 0)."""

    def width(self, hidden_size: int, layers: int) -> int:
        """How many numbers it keeps per sample of a model of that width D and L layers; 1 = a number."""
        return 1

    @property
    def is_vector(self) -> bool:
        """Whether it keeps more than a number: its class has a `width` of its own."""
        return type(self).width is not Signal.width

    def bind(
        self,
        model: Any,
        recorded: Sequence[Mapping[str, Any]],
        draw: Callable[[int], Iterable[Batch]] | None = None,
    ) -> Self:
        """As it will be measured with this model, looked at before the first sample; mostly itself.

        Args:
            model: the open model (`models.Adapter`).
            recorded: signals that were bound to the same model before, as a run has them (`signal`, `parameters`).
            draw: so many samples of the pool, one per batch, drawn the same way each time; None = no pool is there.
        """
        return self

    def recorded_value(self, field: str, recorded: Sequence[Mapping[str, Any]]) -> Any:
        """What a signal of `recorded` that is like this one but for `field` has there; None where there is none."""
        for entry in recorded:
            before = entry["parameters"]
            if entry["signal"] == self.name and before == {**self.parameters(), field: before.get(field)}:
                return before[field]
        return None

    def parameters(self) -> dict[str, Any]:
        """What tells it from others of its class, as plain values: what a run records."""
        fields = dataclasses.asdict(self) if dataclasses.is_dataclass(self) else vars(self)
        return {name: value for name, value in fields.items() if not name.startswith("_")}
