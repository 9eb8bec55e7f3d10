"""The demo's last act: three rules on two pools. In: two scored pools. Out: what a weak model learns of each choice.

One pool is half spoiled, the other has nothing wrong and most of it five times: whoever only judges keeps copies there,
whoever only covers keeps dirt here. What holds on both is what a user needs who does not know his pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vlmsift.demo import MODEL_PATH
from vlmsift.demo.redundant import make_redundant
from vlmsift.demo.teach import Lesson, teach
from vlmsift.methods import METHODS
from vlmsift.models import open_model
from vlmsift.plants.share import tell_share
from vlmsift.pools import open_pool
from vlmsift.runs.run import Run
from vlmsift.scoring.score import score
from vlmsift.selecting import select
from vlmsift.specs import ModelSpec
from vlmsift.terminal import progress_bar, say

COPIES = 5
RULES = ("random", "delta-attnmask", "judge-cover")  # the last measures what all of them need


@dataclass(frozen=True)
class Compared:
    """What came of one pool."""

    name: str
    rows: int
    lessons: dict[str, Lesson]  # by rule, and "untrained"


def compare_rules(
    out: Path, spoiled: tuple[Path, Run], size: int, seed: int, keep: str, epochs: float, tests: int
) -> Iterator[Compared]:
    """Train on what each rule keeps of the spoiled pool and of a redundant one of `size` samples, made in `out`."""
    pool = out / f"redundant-{size}-seed{seed}" / "pool.json"
    if not pool.exists():
        make_redundant(pool.parent, size, COPIES, seed)
    signals = METHODS[RULES[-1]].build_signals()
    with progress_bar() as progress:
        run = score(pool, MODEL_PATH, out / "redundant-run", signals=signals, progress=progress)
    model = open_model(ModelSpec(MODEL_PATH, device="cpu"))
    for name, (path, scored) in {"half spoiled": spoiled, "clean, redundant": (pool, run)}.items():
        data = open_pool(path)
        say(f"   {name}: {tell_share(scored, data, model).sentence()}")
        chosen = {rule: select(scored, METHODS[rule].selector, keep, seed=seed).ids for rule in RULES}
        yield Compared(name, len(data), teach(out, path, chosen, epochs, tests, seed))
