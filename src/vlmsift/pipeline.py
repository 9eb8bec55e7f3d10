"""Joins the stages: a pool and a model -> a run folder of signals -> a selection -> an exported file.

These functions are the library's front door; the command line calls nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmsift.choosing.selection import Decided
from vlmsift.errors import RunMismatch, UsageError
from vlmsift.runs.run import Run
from vlmsift.scoring.score import PART_SIZE, Progress, check_resumable, fingerprint_images, score

if TYPE_CHECKING:
    from vlmsift.pools import Pool
    from vlmsift.selectors import Selector

__all__ = [
    "PART_SIZE",
    "PoolSelection",
    "Progress",
    "check_resumable",
    "export",
    "fingerprint_images",
    "run_pool",
    "score",
    "select",
]


@dataclass(frozen=True)
class PoolSelection(Decided):
    """A selection that remembers its run, so that it can be exported. Made by `select`."""

    run: Run

    def export(
        self, out: str | Path, *, format: str | None = None, dropped: bool = False, pool: str | Path | None = None
    ) -> Path:
        """Write the kept (or the dropped) rows, in the pool's order, untouched in the source format or converted.

        Args:
            out: .json, .jsonl, .parquet, or a folder for a saved Hugging Face data set.
            pool: where the pool is now, if it was moved since scoring.
        """
        return export(self.run, self, out, format=format, dropped=dropped, pool=pool)


def select(run: Run | str | Path, *, selector: str | Selector | None = None, **how: Any) -> PoolSelection:
    """Choose samples by a run's signals. Needs no model.

    Args:
        selector: a word such as "coincide:temperature=0.2", or a selector; see `vlmsift.selectors.choose` for the other
            arguments then. None = rank by one signal; see `vlmsift.selectors.select` for them.
    """
    from vlmsift import selectors

    run = run if isinstance(run, Run) else Run.open(run)
    missing = run.summary()["missing"]
    if missing:
        raise UsageError(
            f"{run.folder}: {missing} of {run.pool_rows} rows are not scored yet; start the same score command again, "
            "it finishes them"
        )
    if selector is None:
        chosen = selectors.select(run, **how)
    else:
        if given := sorted({"by", "pick", "balance", "low", "high", "clusters", "vector", "min_group"} & set(how)):
            raise UsageError(
                f"selector={selector!r} says how to choose already; write {given[0]}={how[given[0]]!r} into its word"
            )
        chosen = selectors.choose(
            run, selectors.build_selector(selector) if isinstance(selector, str) else selector, **how
        )
    return PoolSelection(chosen.ids, chosen.dropped, chosen.made_by, chosen.decisions, run)


def export(
    run: Run,
    selection: Decided,
    out: str | Path,
    *,
    format: str | None = None,
    dropped: bool = False,
    pool: str | Path | None = None,
) -> Path:
    """Write the selection's rows of the pool that the run was scored on.

    Raises:
        RunMismatch: the pool is not the one that was scored.
    """
    source = run_pool(run, pool)
    rows = selection.decisions
    kept = rows["kept"].to_numpy()
    indices = rows["index"].to_numpy()[~kept if dropped else kept].tolist()
    return source.export(indices, out, format=format)


def run_pool(run: Run, path: str | Path | None = None) -> Pool:
    """The pool that a run was scored on, opened again and proven to be unchanged. Its images may be gone.

    Raises:
        UsageError: it is not where it was. RunMismatch: it is not the same.
    """
    from vlmsift.pools import open_pool

    info, data = run.settings["info"], run.settings["identity"]["data"]
    where = Path(path or info["pool"])
    if not where.exists():
        raise UsageError(f"the pool {where} is no longer there; name its new place with --pool")
    images = None if path or not Path(info["images"]).is_dir() else info["images"]
    pool = open_pool(where, images=images, format=data["format"], source_field=info.get("source_field"))
    if pool.fingerprint() != data["fingerprint"]:
        raise RunMismatch(
            f"{where} is not the pool that {run.folder} was scored on: its content differs. Name the right file with "
            "--pool, or score this one into a run of its own"
        )
    return pool
