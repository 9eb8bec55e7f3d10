"""What was told of a run's pool: how much of it looks spoiled. In: the run's folder. Out: a record, or nothing.

run/plants/share.json   written by `vlmsift.plants.share`, beside the run of the planted rows that told it
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec

from vlmsift.errors import UsageError
from vlmsift.files import as_json
from vlmsift.folders import open_folder

PLANTS = "plants"  # folder inside a run
FILE = "share.json"


@dataclass(frozen=True)
class Spoiled:
    """How much of a pool looks spoiled to a model.

    Attributes:
        share: at most so much, 0 to 1; None where no twin could be made or told apart.
        low, high: an interval about it, see `plants.share`.
        originals: rows that were looked at. twins: kind -> known-bad twins that they were held against.
        left_out: sentences on what could not be planted or measured.
    """

    share: float | None
    low: float = 0.0
    high: float = 1.0
    originals: int = 0
    twins: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    seconds: float = 0.0  # that it took to tell

    def sentence(self) -> str:
        """What a user is told."""
        if self.share is None:
            return f"How much of this pool is spoiled cannot be told: {' '.join(self.left_out)}"
        told = f"At most {self.share:.0%} of this pool looks spoiled, as far as this model can tell"
        return f"{told} ({self.low:.0%} to {self.high:.0%}, by {sum(self.twins.values())} planted twins)."


def read_spoiled(folder: str | Path) -> Spoiled | None:
    """What was told of the run in `folder`; None where nobody has asked. Raises UsageError for a damaged file."""
    try:
        return msgspec.json.decode(open_folder(folder).read(f"{PLANTS}/{FILE}"), type=Spoiled)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise UsageError(f"{folder}/{PLANTS}/{FILE} cannot be read ({error}). Remove it, and sift again.") from error


def write_spoiled(folder: str | Path, told: Spoiled) -> None:
    """Keep it in the run."""
    open_folder(folder).put(f"{PLANTS}/{FILE}", as_json(asdict(told)).encode())
