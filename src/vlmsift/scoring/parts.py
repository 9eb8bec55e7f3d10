"""Which parts of a run a worker scores, and when. In: a run and a shard. Out: numbers of parts, one after the other.

A part is the same bytes whoever scores it, so doing one twice costs time and nothing else. Hence workers share a run
without locks, leases or clocks: each takes its own stride first, and then what is still missing, in an order of its own
so that two seldom meet, looking again before each. When a worker finds nothing missing, the run is finished.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet

from vlmsift.runs import Run
from vlmsift.scoring.asked import Asked
from vlmsift.scoring.shards import Shard

LOOKED_AT = 32  # finished parts, evenly spaced, that a start looks at before it measures


class Parts:
    """The parts that one worker takes; iterate once.

    Attributes:
        found: those that were finished when it began. rows_done: of those that are known to be finished by now.
    """

    def __init__(self, run: Run, shard: Shard, asked: Asked | None = None) -> None:
        self.run, self.shard, self.asked = run, shard, asked
        self.found = frozenset(run.finished_parts())
        self.rows_done = 0
        self._finished: set[int] = set()  # by whomever
        self._taken: set[int] = set()  # by this worker, written or not
        self.note(self.found)

    def __iter__(self) -> Iterator[int]:
        for part in self.run.parts[self.shard.index :: self.shard.count]:
            if part in self.found:
                continue
            if self.shard.count > 1 and self.run.has_part(part):  # another was quicker
                self.note({part})
                continue
            self._taken.add(part)
            yield part
        order = list(self.run.parts)
        random.Random(self.shard.index).shuffle(order)
        while True:
            self.note(self.run.finished_parts())
            known = self._finished | self._taken
            missing = next((part for part in order if part not in known), None)
            if missing is None:
                return
            self._taken.add(missing)
            yield missing

    def rows_of(self, part: int) -> Sequence[int]:
        """The rows of a part that are to be measured."""
        rows = self.run.rows_of(part)
        return rows if self.asked is None else self.asked.within(rows)

    def note(self, parts: AbstractSet[int]) -> None:
        """Those parts are finished."""
        self.rows_done += sum(len(self.rows_of(part)) for part in parts - self._finished)
        self._finished |= parts

    def look(self) -> set[bool]:
        """False where a finished part holds a measured sample, True where one with an image; reads a few at most.

        Raises as `Run.check_part`.
        """
        kinds: set[bool] = set()
        found = sorted(self.found)
        for part in found[:: -(-len(found) // LOOKED_AT) or 1]:
            table = self.run.check_part(part).select(["status", "images"])
            for row in table.group_by(["status", "images"]).aggregate([]).to_pylist():
                kinds |= {False, row["images"] > 0} if row["status"] == "ok" else set()
            if len(kinds) == 2:
                break
        return kinds

    def check(self) -> None:
        """Read what was there of its stride when it began; all workers together read all. Raises as `check_part`."""
        for part in self.run.parts[self.shard.index :: self.shard.count]:
            if part in self.found:
                self.run.check_part(part)
