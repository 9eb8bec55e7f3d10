"""What a run and a selection say of themselves. In: a `Run`, a `Selection`. Out: accounts for every renderer."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from vlmsift.choosing.answers import MUCH
from vlmsift.errors import split_reason
from vlmsift.proxy import Told
from vlmsift.runs.spoiled import read_spoiled
from vlmsift.tables import Account, Section

if TYPE_CHECKING:
    from vlmsift.choosing.selection import Selection
    from vlmsift.runs.run import Run

_END = {"highest": "the highest", "lowest": "the lowest", "middle": "the middle of", "band": "drawn from a band of"}


def run_account(run: Run, speed: str = "") -> Account:
    """What a scoring run left: rows scored, in what time (`speed`), errors by kind with an example each."""
    summary = run.summary()
    points = []
    if summary["not_asked"]:
        where = run.settings["identity"]["asked"]["where"]
        points.append(f"{summary['not_asked']:,} rows were not asked, as not ({where}); they are never selected")
    points += [f"{summary['text_only']:,} rows have no image"] if summary["text_only"] else []
    undefined = {name: count for name, count in summary["undefined"].items() if count > 0}
    points += [f"{name} is undefined (null) for {count:,} scored rows" for name, count in undefined.items()]
    sections = [Section(text=f"{summary['ok']:,} of {run.pool_rows:,} rows scored{speed}", points=points)]
    if summary["errors"]:
        examples = _examples(run, summary["errors"])
        kinds = [f"{count:,} x {kind}; the first is {examples[kind]}" for kind, count in summary["errors"].items()]
        told = f"{sum(summary['errors'].values()):,} error rows, which are never selected:"
        sections.append(Section(text=told, points=kinds))
    return Account("Run", sections)


def _examples(run: Run, kinds: Collection[str]) -> dict[str, str]:
    """Each of the kinds of error -> the first sample of that kind, with the rest of its reason."""
    found: dict[str, str] = {}
    for batch in run.batches(["id", "status", "reason"]):
        for row in batch.filter(pc.equal(batch["status"], "error")).to_pylist():
            kind, detail = split_reason(row["reason"])
            found.setdefault(kind, f"{row['id']!r}{': ' if detail else ''}{detail}")
        if len(found) == len(kinds):
            break
    return found


def selection_account(selection: Selection) -> Account:
    """How many rows are kept, by what, within which values, how they are balanced, and why the others are dropped."""
    made = selection.made_by
    kept, total = made["budget"], made["rows"]
    strata = []
    for stratum in made["strata"]:
        rows = "rows with images" if stratum["stratum"] == "images" else f"{stratum['stratum']} rows"
        strata.append(f"{stratum['keeps']:,} of {stratum['rows']:,} {rows}{_how(made, stratum)}")
    sections = [Section(text=f"{kept:,} of {total:,} rows kept: {_by(made)}{_values(selection)}", points=strata)]
    if selection.run is not None and (told := read_spoiled(selection.run.place)) is not None:
        sections.append(Section(text=told.sentence()))
    sections += [Section(text=line) for line in (*_told(selection.run), *_moved(made.get("answers_moved")))]
    ruled_out = dict(made["ruled_out"])
    lower = total - kept - sum(ruled_out.values())
    suspects = sum(stratum["suspects"] - stratum["refilled"] for stratum in made["strata"] if "suspects" in stratum)
    judged = sum(stratum.get("judged_out", 0) for stratum in made["strata"])
    rest = lower - suspects - judged
    causes = {"suspects": suspects, "judged the worst": judged, "ranked lower, or not drawn": rest, **ruled_out}
    if why := ", ".join(f"{count:,} {label}" for label, count in causes.items() if count):
        sections.append(Section(text=f"dropped: {why}"))
    return Account("Selection", sections)


def _told(run: Run | None) -> list[str]:
    """How a run came by numbers that a proxy told, and what it took."""
    if run is None or "predicted" not in run.settings["identity"]:
        return []
    signals, cost = run.settings["identity"]["signals"], run.settings["info"]["cost"]
    lines = [Told(**one["predicted"]).sentence(name) for name, one in signals.items() if "predicted" in one]
    spent = " and ".join(
        f"{cost[who]['forwards']:g} forwards of {cost[who]['rows']:,} rows by the {who}, "
        f"{cost[who]['parameters']:,} parameters"
        for who in ("proxy", "target")
    )
    return [*lines, f"scoring took {spent}: {cost['ratio']:.0%} of the target scoring every row"]


def _moved(move: Any) -> list[str]:
    """What a selection does to the answers, where a user should know."""
    if not move:
        return []
    what = f"among questions like {move['form']!r} the answer {move['answer']!r} goes from {move['before']:.0%} of the "
    what += f"pool's to {move['after']:.0%} of the kept"
    if abs(move["after"] - move["before"]) <= MUCH:
        return [f"answers: {what}, which is the largest move"]
    return [f"warning: {what}; a model may learn that answer in the picture's place. Balance by form keeps the shares"]


def _by(made: Any) -> str:
    """What chose."""
    if made["selector"] != "top":  # by no single number
        return (
            f"chosen by {made['selector']}{' from ' + made['vector'] if 'vector' in made and 'by' not in made else ''}"
        )
    return f"{_END.get(made['pick'], made['pick'])} {made['by']}"


def _values(selection: Selection) -> str:
    """The range of the kept values, and of all."""
    rows = pa.Table.from_batches(selection.batches(["kept", "value"]))
    ends = [pc.min_max(part["value"]).as_py() for part in (rows.filter(rows["kept"]), rows)]
    if ends[0]["min"] is None:  # nothing is kept, or nothing was ranked
        return ""
    units = {column.name: column.unit for column in selection.run.columns()} if selection.run else {}
    name = selection.made_by.get("by") or selection.made_by.get("first", {}).get("by")  # of a `then`, who judges
    unit = f" {units[name]}" if name in units and units[name] != "none" else ""
    kept, every = (f"{end['min']:.4g} to {end['max']:.4g}" for end in ends)
    return f", {kept}{unit} (all rows: {every})"


def _how(made: Any, stratum: Any) -> str:
    """How a stratum's rows were chosen."""
    if stratum["selector"] == "random" and made["selector"] != "random":
        return ", drawn at random"
    return _balance(made, stratum) if made["selector"] == "top" else _by_groups(stratum)


def _by_groups(stratum: Any) -> str:
    """What a selector that ranks by no single number found in a stratum."""
    facts = []
    if "suspects" in stratum:
        layers = ", ".join(map(str, stratum["sensitive_layers"]))
        why = f"by layers {layers}" if layers else "no layer falls in two"
        few = "too_few_rows" in stratum
        facts.append("too few rows to judge" if few else f"{stratum['suspects']:,} suspects, {why}")
    if "judged_out" in stratum:
        facts.append(f"after the worst {stratum['judged_share']:.0%} were dropped ({stratum['judged_by']})")
    if stratum.get("balance") == "source":
        facts.append("sources apart")
    if "clusters_found" in stratum:
        facts.append(f"{stratum['clusters_found']:,} clusters")
    return "".join(f", {fact}" for fact in facts)


def _balance(made: Any, stratum: Any) -> str:
    """What the rows of a stratum are balanced by, how many groups that gives, and why "auto" chose it."""
    balance, groups = stratum.get("balance"), stratum.get("groups", 0)
    if balance is None:
        return ""
    if balance == "none":
        return ", not balanced"
    count = f"{groups:,} group{'' if groups == 1 else 's'}"
    if made["balance"] == "auto":
        count += "; auto: " + {
            "answer": f"{stratum.get('repeated', 0):.0%} have a short answer that repeats",
            "clusters": "most answers are long or do not repeat",
        }.get(balance, f"most answers do not repeat, and there is no {made['vector']} to cluster")
    return f", balanced by {balance} ({count})"
