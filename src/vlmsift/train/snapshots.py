"""The model at several points of its training. In: how many, and a writer. Out: folders `step-N`, whole or absent.

N counts the optimiser steps done. While the training runs they lie in its work folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from vlmsift.files import replacing
from vlmsift.train import record


def evenly_spaced(count: int, steps: int) -> tuple[int, ...]:
    """The optimiser steps, of 1 to `steps`, after which a snapshot is due: `count` of them, or all; always the last."""
    count = min(count, steps)
    return tuple(round(number * steps / count) for number in range(1, count + 1))


class Snapshots(TrainerCallback):  # type: ignore[misc]
    """Writes the model when a snapshot is `due`, and at the end of the training, wherever that comes.

    Without a step that is due nothing is written.
    """

    def __init__(self, work: Path, due: tuple[int, ...], write: Callable[[Path], None]) -> None:
        self.folder, self.due, self.write = work / record.SNAPSHOTS, due, write

    def resume(self, step: int) -> bool:
        """Keep what was made up to this step, and drop the rest: its training is lost. Whether none is missing."""
        kept = [self.folder / f"step-{due}" for due in self.due if due <= step]
        for path in self.folder.glob("*"):  # half ones too, whose names begin with a dot
            if path not in kept:
                shutil.rmtree(path)
        return all(path.exists() for path in kept)

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """A step is done. Its checkpoint, if there is one, is written after this: a snapshot comes before it."""
        if state.global_step in self.due:
            self._make(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """The end comes before its time where the loss is no number."""
        if self.due:
            self._make(state.global_step)

    def _make(self, step: int) -> None:
        folder = self.folder / f"step-{step}"
        if not folder.exists():
            with replacing(folder) as temporary:
                self.write(temporary)
