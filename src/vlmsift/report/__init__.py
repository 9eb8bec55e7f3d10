"""A run as a page to look at. In: a run, its selections and its pool. Out: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from vlmsift.errors import UsageError, VlmsiftError
from vlmsift.parameters import Seed, check_value
from vlmsift.report.page import check_page, write_page
from vlmsift.specs import ModelSpec, as_spec

if TYPE_CHECKING:
    from vlmsift.choosing.selection import Selection
    from vlmsift.models import Adapter
    from vlmsift.pools import Pool
    from vlmsift.report.cards import Eye
    from vlmsift.runs.run import Run

__all__ = ["check_page", "write_report"]

MOST_SELECTIONS = 4  # that are shown where none is named


def write_report(
    run: Run | str | Path,
    out: str | Path,
    *,
    selections: Sequence[str] | Mapping[str, Selection] | None = None,
    model: str | Path | ModelSpec | Adapter | None = None,
    pool: str | Path | None = None,
    seed: int = 0,
) -> Path:
    """Write a page about a run, what was chosen from it, and samples with the reason of their fate.

    Args:
        run: the run, or its folder; it may be under way.
        out: the HTML file. A report of that name is replaced.
        selections: names of saved ones, or name -> selection; None is all in the run (the first four, by name).
        model: says where it looks while it answers, for the shown samples; None leaves that out.
        pool: where the data is now, if it was moved since scoring.
        seed: of all draws.

    Raises:
        UsageError: no such run or selection, a pool named here that cannot be read, or `out` is something else.
        RunMismatch: a pool named here is not the one that was scored. UnsupportedModel: the model cannot be opened.
    """
    from vlmsift.report.content import Content
    from vlmsift.runs.run import Run

    seed, out = check_value("report", "seed", seed, Seed), Path(out)
    check_page(out)
    run = run if isinstance(run, Run) else Run.open(run)
    chosen, notes = _selections(run, selections)
    data, absent = _pool(run, pool)
    eye = None if model is None or data is None else _eye(run, model, chosen, notes)
    return write_page(Content(run, chosen, data, absent, eye, seed, notes), out)


def _selections(
    run: Run, wanted: Sequence[str] | Mapping[str, Selection] | None
) -> tuple[dict[str, Selection], list[str]]:
    """The selections by name, and what is to be said of them."""
    from vlmsift.choosing.selection import Selection

    if isinstance(wanted, Mapping):
        return dict(wanted), []
    notes: list[str] = []
    if wanted is None:
        files = [PurePosixPath(name) for name in run.home.list("selections/")]
        names = [file.stem for file in files if file.suffix == ".parquet"]
        if len(names) > MOST_SELECTIONS:
            notes.append(f"Not shown: the selections {', '.join(names[MOST_SELECTIONS:])}; name them with --selection.")
        wanted = names[:MOST_SELECTIONS]
    return {name: Selection.load(run, name) for name in dict.fromkeys(wanted)}, notes


def _pool(run: Run, where: str | Path | None) -> tuple[Pool | None, str]:
    """The run's pool, or why it cannot be shown; one that the user named must be the right one."""
    from vlmsift.runs.pool import run_pool

    try:
        return run_pool(run, where), ""
    except VlmsiftError as error:
        if where is not None:
            raise
        return None, f"Pictures and turns cannot be shown: {error}."


def _eye(run: Run, model: str | Path | ModelSpec | Adapter, chosen: Mapping[str, Selection], notes: list[str]) -> Eye:
    """The model that looks, with the masking of the signal that ranked, else of the first that masks."""
    from vlmsift.models import open_model
    from vlmsift.models.fingerprint import fingerprint
    from vlmsift.passes.masking import Masking
    from vlmsift.report.cards import Eye

    spec = as_spec(ModelSpec, model)
    adapter = open_model(spec) if isinstance(spec, ModelSpec) else spec
    identity = run.settings["identity"]
    scored = identity.get("model", {}).get("weights")
    if scored is not None and fingerprint(adapter)["weights"] != scored:
        notes.append(f"The model that looks, {adapter.name}, is not the one that was scored: its weights differ.")
    entries = {name: entry.get("parameters", {}) for name, entry in identity["signals"].items()}
    masks = [name for name, fields in entries.items() if "eligible" in fields]
    ranked = [made.get("by") for one in chosen.values() for made in (one.made_by, one.made_by.get("first", {}))]
    name = next((name for name in [*ranked, *masks] if name in masks), None)
    if name is None:
        return Eye(adapter, None)
    try:
        fields = {key: value for key, value in entries[name].items() if key in Masking.__dataclass_fields__}
        return Eye(adapter, Masking(**fields), name)
    except (TypeError, UsageError) as error:  # of another version
        notes.append(f"The masking of {name} is not drawn: {error}.")
        return Eye(adapter, None)
