"""What was run: model, parameters, versions, seconds, forwards. In: a run's settings. Out: records."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from vlmsift.errors import VlmsiftError
from vlmsift.folders import LocalFolder
from vlmsift.report.accounts import run_account
from vlmsift.runs.run import Run
from vlmsift.tables import Account, Record, Section

USUAL_DEPTH = 32  # layers that forwards are counted for where the model's are not known


def what_was_run(run: Run, depth: int | None) -> Account:
    """The run's account, with the model, the data, the signals and what they cost.

    Args:
        depth: text layers of the model; None where nobody knows.
    """
    identity, info = run.settings["identity"], run.settings["info"]
    model, data = identity.get("model", {}), identity["data"]
    told = {
        "model": _joined(model.get("name"), model.get("family"), model.get("dtype"), model.get("revision")),
        "weights": model.get("weights", ""),
        "pool": f"{info.get('pool', '')} ({data.get('format', 'unknown format')}, {run.pool_rows:,} rows)",
        "device": info.get("device", ""),
        "time": _time(run),
        "cost": _cost(identity["signals"], depth),
        "versions": ", ".join(f"{name} {one}" for name, one in info.get("versions", {}).items()),
    }
    facts = [{"what": name, "value": value} for name, value in told.items() if value]
    account = run_account(run)
    signals = [_signal(name, entry) for name, entry in identity["signals"].items()]
    listed = Section("What was measured", records=signals, left=4)
    return Account(account.title, [*account.sections, Section(records=facts, left=2), listed])


def _joined(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part)


def _signal(name: str, entry: Mapping[str, Any]) -> Record:
    fields = {key: value for key, value in entry.get("parameters", {}).items() if value not in ("", None)}
    return {
        "column": name,
        "signal": str(entry.get("signal", name)),
        "unit": str(entry.get("unit", "")),
        "parameters": ", ".join(f"{key}={value}" for key, value in fields.items()),
    }


def _time(run: Run) -> str:
    """From the first start to the last part, and how many starts there were."""
    starts = [session["started"] for session in run.sessions() if "started" in session]
    if not starts:
        return ""
    told = f"begun {datetime.fromisoformat(starts[0]):%Y-%m-%d %H:%M %Z}"
    home = run.home.path if isinstance(run.home, LocalFolder) else None  # a store keeps no time of writing for us
    written = [] if home is None else [path.stat().st_mtime for path in (home / "signals").glob("part-*.parquet")]
    seconds = max(written, default=0.0) - datetime.fromisoformat(starts[0]).timestamp()
    if len(starts) == 1 and seconds > 0:
        return f"{told}; the last part was written {timedelta(seconds=round(seconds))} (h:mm:ss) later"
    return f"{told}; {len(starts)} starts"


def _cost(entries: Mapping[str, Mapping[str, Any]], depth: int | None) -> str:
    """Forwards per sample of the signals together."""
    from vlmsift.signals import SIGNALS, forwards

    known, unknown = [], []
    for name, entry in entries.items():
        try:
            known.append(SIGNALS[entry["signal"]](**entry["parameters"]))
        except (KeyError, TypeError, VlmsiftError):  # of another version, or made by `calibrate`
            unknown.append(name)
    if not known:
        return ""
    told = f"{forwards(known, depth or USUAL_DEPTH):.3g} forwards of the text decoder per sample"
    told += "" if depth else f", in a decoder of {USUAL_DEPTH} layers"
    return told + (f", without {', '.join(unknown)}" if unknown else "")
