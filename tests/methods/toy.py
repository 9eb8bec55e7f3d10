"""A method as somebody else writes one: a signal, a selector's word, and where it comes from."""

from dataclasses import dataclass
from typing import ClassVar

from vlmsift.methods import Method
from vlmsift.types import Batch, Measured, Signal


@dataclass(frozen=True)
class Brevity(Signal):
    """1 / (supervised tokens), (B,)."""

    name: ClassVar[str] = "brevity"
    unit: ClassVar[str] = "per token"
    higher_means: ClassVar[str] = "the answer is shorter"

    def __call__(self, batch: Batch, measured: Measured):
        return 1 / (batch.labels != -100).sum(1).float()


METHOD = Method({"brevity": Brevity()}, "top:by=brevity,balance=none", "0", "a toy", "Keeps the shortest answers.")
