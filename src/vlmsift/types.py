"""The words of the house as types: what goes in (Sample), what a model sees (Batch), what comes out (Signal).

Notation of every shape: B samples, T positions, L text layers, H attention heads, D hidden width. Losses are in nats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

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
    """One training record. `row` is the source record, exported untouched; images are opened late."""

    id: str
    index: int
    turns: tuple[Turn, ...]
    images: tuple[ImageRef, ...]
    source: str | None
    row: Mapping[str, Any]

    @property
    def answer(self) -> str:
        """The last assistant turn's text; empty where there is none."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "assistant"), "")


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples as one model call. All masks are bool (B, T); True means "yes".

    Attributes:
        ids: sample ids, length B.
        inputs: exactly what `model(**inputs)` takes.
        labels: (B, T) int64, the token id where supervised, -100 elsewhere.
        image_mask: the position holds an image feature.
        image_index: (B, T) int64, which image of its sample a position belongs to; -1 for text.
        special_mask: the position holds a special token (bos, end of turn, ...), images excluded.
        valid: the position is not padding.
        query_mask: the *next* position is supervised, so this row's output is what the loss reads.
    """

    ids: tuple[str, ...]
    inputs: Mapping[str, Any]
    labels: Tensor
    image_mask: Tensor
    image_index: Tensor
    special_mask: Tensor
    valid: Tensor
    query_mask: Tensor

    def __len__(self) -> int:
        return len(self.ids)


class Need(Protocol):
    """A measurement that signals ask for: a small frozen dataclass, equal when it measures the same thing."""

    def __hash__(self) -> int: ...


Measured = Mapping[Any, Any]
"""What the passes measured on one batch: need -> tensor, (B,) or (B, K) float32."""


@runtime_checkable
class Signal(Protocol):
    """What is kept per sample: a number or a short vector, with a unit and a direction.

    Class = file = column = command-line word. Adding one is one short file and one line in `signals/__init__.py`.
    """

    @property
    def name(self) -> str:
        """Column and command-line word."""

    @property
    def unit(self) -> str:
        """Unit of the value, e.g. "nats"."""

    @property
    def higher_means(self) -> str:
        """A sentence for the report: what a higher value says about the sample."""

    @property
    def needs(self) -> tuple[Any, ...]:
        """Measurements this signal is made from; they decide which passes run."""

    def __call__(self, batch: Batch, measured: Measured) -> Tensor:
        """(B,) or (B, K) float32; NaN = undefined for this sample (null on disk, never 0)."""
