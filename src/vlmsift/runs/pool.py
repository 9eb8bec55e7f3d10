"""A run's way back to its data. In: a run. Out: the pool that was scored, proven to be the same."""

from __future__ import annotations

from vlmsift.errors import RunMismatch, UsageError
from vlmsift.places import Place, as_place
from vlmsift.pools import Pool, open_pool
from vlmsift.runs.run import Run


def run_pool(run: Run, path: str | Place | None = None) -> Pool:
    """The pool that a run was scored on, opened again and proven to be unchanged. Its images may be gone.

    Args:
        path: where it is now; None is where it was.

    Raises:
        UsageError: it is not where it was, or the run does not say where. RunMismatch: it is not the same.
    """
    try:
        info, data = run.settings["info"], run.settings["identity"]["data"]
        where, format, fingerprint = as_place(path or info["pool"]), data["format"], data["fingerprint"]
        images = None if path or not as_place(info["images"]).is_dir() else info["images"]
    except KeyError as error:
        cure = "Restore its run.json, or score the pool anew."
        raise UsageError(f"{run.place} does not say which pool was scored: {error} is missing. {cure}") from error
    if not where.exists():
        raise UsageError(f"the pool {where} is no longer there; name its new place with --pool")
    pool = open_pool(where, images=images, format=format, source_field=info.get("source_field"))
    if pool.fingerprint() != fingerprint:
        cure = "Name the right file with --pool, or score this one into a run of its own"
        raise RunMismatch(f"{where} is not the pool that {run.place} was scored on: its content differs. {cure}")
    return pool
