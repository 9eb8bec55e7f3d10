"""Freeze what the tool computes, and say what has changed since.

    python -m benchmarks.freeze take OUT              # some minutes; run it before and after a reshaping
    python -m benchmarks.freeze compare BEFORE AFTER  # every number, choice, byte and identity that is not the same

In: the toys of tests/ and the embedded model and data. Out: arrays.npz (every signal of every toy family and of the
demo pool, float32), choices.json (what every method keeps of the demo pool), exports.json (hashes of exported files)
and identity.json (what a run says it was made from).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import tests.conftest  # noqa: F401  before transformers: makes torchvision importable on a CPU

import vlmsift
from vlmsift.demo import START_PATH
from vlmsift.demo.pool import make_pool
from vlmsift.methods import METHODS
from vlmsift.passes.capture import Capture
from vlmsift.passes.measure import measure
from vlmsift.scoring.score import score
from vlmsift.signals import SIGNALS, build_signals
from vlmsift.specs import EngineSpec

ROWS = 300
FAMILIES = ["llava", "llava_next", "llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"]
FAMILIES += ["internvl", "smolvlm", "idefics3", "gemma3", "paligemma", "mistral3"]
SETTINGS = [
    "first=delta_attnmask:depth=0,rows=all,sinks=keep",
    "last=delta_attnmask:depth=-1,eligible=context,relative=true",
    "noisy=delta_attnmask:replace=noise,eligible=all,layers=above",
    "dropped=delta_random:replace=drop,eligible=context,ratio=0.2",
    "meant=delta_bottom:replace=mean,layers=below,depth=1",
    "narrow=hidden_mean:dimensions=5,depth=1.0",
    "relative_profile=entropy_profile:normalise=true",
    "spectrum_released=image_spectrum:attention=released",
    "spectrum_answer=image_spectrum:rows=answer,top=1",
    "ifd_seen=ifd:image=seen",
    "concepts_whole=concept_states:dimensions=0",
    "concepts_narrow=concept_states:layers=2,dimensions=6",
    "narrow_last=last_state:dimensions=5",
]
"""Settings beside every signal's defaults."""
EXPORTS = ("kept.json", "kept.jsonl", "kept.parquet", "dropped.json", "messages.jsonl", "sharegpt.parquet")


def signals(heads: str, known: set[str] | None = None) -> dict[str, Any]:
    """Every signal of the table by its defaults, and the settings; heads that look things up are given."""
    names = [name for name in SIGNALS if known is None or name in known]
    words = [f"attention_influence:heads={heads}" if name == "attention_influence" else name for name in names]
    return build_signals([*words, *SETTINGS])


def toys(folder: Path) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """(family/column, float32 values) of eight samples in one batch, for every family."""
    from tests.models.helpers import batch_of, opened, varied
    from tests.toys import make_toy

    for family in FAMILIES:
        adapter = opened(make_toy(family, folder / family))
        chosen = signals("0.1+2.3")
        with Capture(adapter) as capture:
            batch = batch_of(adapter, varied(adapter.model.config.model_type))
            found = measure(capture, batch, [need for signal in chosen.values() for need in signal.needs])
        for column, signal in chosen.items():
            yield f"{family}/{column}", signal(batch, found).float().numpy()
        print(f"  {family}", file=sys.stderr)


def demo(folder: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Arrays, choices, exports and the identity of the demo pool's runs."""
    pool = make_pool(folder / "digits", ROWS, 0)
    run = score(pool, START_PATH, folder / "run", signals=signals("0.1+2.3"), engine=EngineSpec(workers=0))
    table = run.table()
    arrays = {}
    for column in run.columns():
        values = run.vector(column.name) if column.width > 1 else table[column.name].to_numpy()
        arrays[f"demo/{column.name}"] = np.asarray(values, np.float32)
    choices, exports = {}, {}
    for name, method in list(METHODS.items()):
        if name == "attention-influence":  # as it is, but for fewer probes
            METHODS[name] = replace(method, signals=("attention_influence:probes=20",))
        out = folder / "kept" / name / "kept.json"
        made = vlmsift.sift(pool, str(START_PATH), out, method=name, keep="20%", engine=EngineSpec(workers=0))
        choices[name] = list(made.ids)
        if name == "delta-attnmask":
            exports = exported(made, out.parent)
            assert made.run is not None  # it was scored
            identity = made.run.settings["identity"]
        print(f"  {name}", file=sys.stderr)
    return arrays, choices, exports, identity


def exported(selection: Any, folder: Path) -> dict[str, str]:
    """File -> sha256 of the selection's rows in several containers and formats."""
    digests = {}
    for name in EXPORTS:
        form = Path(name).stem if Path(name).stem in ("messages", "sharegpt") else None
        path = selection.export(folder / name, format=form, dropped=name.startswith("dropped"))
        digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


def take(out: Path) -> None:
    """Write all that is frozen to a new folder."""
    torch.set_num_threads(1)
    if importlib.util.find_spec("torchvision") is None:
        raise SystemExit("the toys need torchvision: make test sets it up")
    out.mkdir(parents=True)
    work = Path(tempfile.mkdtemp(prefix="freeze-"))
    try:
        arrays, choices, exports, identity = demo(work)
        arrays |= dict(toys(work / "toys"))
        np.savez_compressed(out / "arrays.npz", **arrays)
        for name, value in {"choices": choices, "exports": exports, "identity": identity}.items():
            (out / f"{name}.json").write_text(json.dumps(value, indent=1, sort_keys=True), encoding="utf-8")
    finally:
        shutil.rmtree(work)


def compare(before: Path, after: Path) -> None:
    """Print, one line each, what is not the same; then how much is."""
    old, new = (dict(np.load(folder / "arrays.npz")) for folder in (before, after))
    same = told("signals", old, new, array_difference)
    for name in ("choices", "exports", "identity"):
        old, new = (json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for folder in (before, after))
        if name == "identity":
            old, new = flat(old), flat(new)
        same += told(name, old, new, {"choices": overlap}.get(name, lambda one, other: f"{one!r} -> {other!r}"))
    print(f"{same} entries are the same, bit by bit")


def told(what: str, old: dict[str, Any], new: dict[str, Any], difference: Callable[[Any, Any], str]) -> int:
    """Print the entries that differ; how many do not."""
    same = 0
    for key in sorted({*old, *new}):
        if key not in new or key not in old:
            print(f"{what}: {key}: {'gone' if key in old else 'new'}")
        elif np.array_equal(old[key], new[key], equal_nan=isinstance(old[key], np.ndarray)):
            same += 1
        else:
            print(f"{what}: {key}: {difference(old[key], new[key])}")
    return same


def array_difference(old: Any, new: Any) -> str:
    if old.shape != new.shape:
        return f"shape {old.shape} -> {new.shape}"
    if (np.isnan(old) != np.isnan(new)).any():
        return f"defined in {np.isfinite(old).sum()} -> {np.isfinite(new).sum()} places"
    return f"largest difference {np.nanmax(np.abs(old - new)):.3g}, largest value {np.nanmax(np.abs(old)):.3g}"


def overlap(old: list[str], new: list[str]) -> str:
    order = "" if set(old) != set(new) else ", in another order"
    return f"{len(set(old) & set(new))} of {len(old)} kept rows are the same{order}"


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {key: one for name, item in value.items() for key, one in flat(item, f"{prefix}.{name}").items()}


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["take", out]:
            take(Path(out))
        case ["compare", before, after]:
            compare(Path(before), Path(after))
        case _:
            raise SystemExit(__doc__)
