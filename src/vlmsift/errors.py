"""Every error that vlmsift raises on purpose. Each message quotes the value and names the cure.

VlmsiftError
|-- UsageError          an argument that cannot be meant: a budget of 0 %, an unknown signal
|-- FormatError         a file that cannot be read as a pool
|-- UnsupportedModel    a model that cannot be opened correctly, and is therefore not scored
|-- RunMismatch         a run folder that was made with other parameters
|-- MissingExtra        an optional dependency is not installed
|-- StoreError          a store of objects cannot be reached, or refuses
`-- SampleError         one sample cannot be used; becomes an error row, never stops a run
"""

from __future__ import annotations


class VlmsiftError(Exception):
    """Base of all errors that are a sentence to the user, not a fault in the program."""


class UsageError(VlmsiftError, ValueError):
    """An argument cannot be meant as given."""


class FormatError(VlmsiftError, ValueError):
    """A file or folder cannot be read as a pool."""


class UnsupportedModel(VlmsiftError):
    """The model cannot be opened correctly; scoring it would give wrong numbers."""


class RunMismatch(VlmsiftError):
    """The run folder holds signals made with other parameters or other data."""


class MissingExtra(VlmsiftError, ImportError):
    """An optional dependency is missing; the message names the extra that brings it."""


class StoreError(VlmsiftError, OSError):
    """A store of objects (s3://, gs://, hf://, ...) cannot be reached, or refuses.

    Attributes:
        kind: what is wrong, in words that the error row of an image takes over. detail: where, and the cure.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail = kind, detail

    def __reduce__(self) -> tuple[type[StoreError], tuple[str, str]]:
        return type(self), (self.kind, self.detail)  # it comes from worker processes


class SampleError(VlmsiftError):
    """One sample cannot be used. "kind: detail" is its error row's reason, and summaries count the kinds.

    Attributes:
        kind: what is wrong, in words that many samples share; without a colon. detail: of this very sample.
    """

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind, self.detail = kind, detail

    def __reduce__(self) -> tuple[type[SampleError], tuple[str, str]]:
        return type(self), (self.kind, self.detail)  # it comes from worker processes


def split_reason(reason: str) -> tuple[str, str]:
    """An error row's reason, as stored, in its kind and its detail."""
    kind, _, detail = reason.partition(":")
    return kind, detail.strip()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may help; PyTorch says it in several ways."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate" in text
