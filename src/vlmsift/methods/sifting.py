"""`sift`: one call that scores, selects and exports, with a fine-tune before where the method asks for one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmsift.errors import UsageError
from vlmsift.methods.method import Method
from vlmsift.parameters import Seed, check_value
from vlmsift.places import StorePath, as_place
from vlmsift.specs import EngineSpec, ModelSpec, PoolSpec, as_spec

if TYPE_CHECKING:
    from vlmsift.choosing.selection import Selection
    from vlmsift.models import Adapter
    from vlmsift.pools import Pool
    from vlmsift.runs.run import Run
    from vlmsift.scoring.score import Progress
    from vlmsift.selectors import Selector

DEFAULT = "judge-cover"
SAVED = "sift"  # the name under which the run keeps the selection


def sift(
    pool: str | Path | PoolSpec | Pool,
    model: str | Path | ModelSpec | Adapter | Sequence[str | Path],
    out: str | Path,
    *,
    method: str | Method = DEFAULT,
    keep: str | int | float | None = None,
    proxy: str | Path | ModelSpec | None = None,
    share: str | float = 0,
    trained: bool = False,
    plants: bool = True,
    run: str | Path | None = None,
    out_format: str | None = None,
    seed: int = 0,
    engine: EngineSpec | None = None,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
    training_progress: Callable[[int, int, float], None] | None = None,
) -> Selection:
    """Score a pool, select, and export the kept rows to `out`: a whole method in one go.

    A method that needs a fine-tune on the pool (xmas, s2l, bye) makes one, by seed 0, into a folder beside the run.
    Where you have its checkpoints, give them as `model`: a folder of step-N or checkpoint-N folders, or several models
    in order.

    Args:
        pool, model, engine, overwrite, progress: as of `vlmsift.score`.
        method: a name in `METHODS`, or a method: one of the table with a changed field (`dataclasses.replace`), or
            what `make_method` makes of words and files.
        keep: a share (0.2, "20%"), a count, or "clean" for methods that judge; None = the method's own.
        proxy: a small model that is scored (and fine-tuned, where the method does that) in the place of `model`, the
            one that will be trained; on the same device, where it is a name alone.
        share: beside a proxy, the share of the rows that `model` scores too, such as "5%": from it is learnt to tell
            `model`'s numbers from the proxy's (see `vlmsift.proxy`), and the run holds those. 0 = the proxy's own
            numbers.
        trained: the model was fine-tuned on this pool already, for methods that need such a one.
        plants: let known-bad twins, planted in a sample of the pool, tell how much of it looks spoiled, where the
            method's selector asks for that (about 1,000 rows more to score). What they told stays in the run.
        run: the run folder; None = beside `out`, named after it. Start again with the same arguments to resume. Both
            may be URLs of a store.
        out_format: of the exported rows; None = the pool's own.

    Raises:
        UsageError: an argument cannot be meant; what can be known before scoring is told before scoring.
    """
    from vlmsift.choosing.budget import CLEAN, parse_keep
    from vlmsift.methods import find_method
    from vlmsift.methods.pair import check_pair, check_share, run_pair
    from vlmsift.methods.tuning import check_tuning, checkpoints, fine_tune, refuse_unmeasured, to_score
    from vlmsift.pools import open_pool
    from vlmsift.scoring.job import check_score
    from vlmsift.scoring.score import run_score

    name = method if isinstance(method, str) else method.called or "this method"
    chosen = find_method(method) if isinstance(method, str) else method
    pool = open_pool(as_spec(PoolSpec, pool))
    keep = chosen.keep if keep is None else keep
    selector = chosen.build_selector() if plants else chosen.build_selector().unasked()
    if keep == CLEAN:
        selector.check_clean()
    else:
        parse_keep(keep, len(pool))
    pool.check_export(out, out_format)
    seed = check_value("sift", "seed", seed, Seed)
    place = as_place(out)
    folder = as_place(run) if run is not None else place.with_name(f"{place.stem}-run")
    spec = as_spec(ModelSpec, model if proxy is None else _in_place_of(model, proxy))
    models, tunes = to_score(name, chosen, spec.model if isinstance(spec, ModelSpec) else spec, trained)
    signals = chosen.build_signals()
    beside = check_share(name, chosen, selector, signals, proxy, share)
    along = chosen.training is not None and chosen.training.snapshots > 1
    refuse_unmeasured(name, selector, signals, along)
    if chosen.retrained and not tunes:
        cure = "a recipe or changes of one mean nothing; leave them out"
        raise UsageError(f"{name}: nothing is fine-tuned here, so {cure}")
    if isinstance(spec, ModelSpec):
        spec = replace(spec, model=models[0] if len(models) == 1 else tuple(models))
    engine = engine or EngineSpec()
    if engine.shard is not None:
        told = f"shard={engine.shard!r}, but who selects must see all rows"
        raise UsageError(f"{told}. Score with it, then select and export")
    if engine.engine == "processes":
        engine = replace(engine, shard="0/1")  # whatever a scheduler's variables say
    if beside:
        if isinstance(folder, StorePath):
            raise UsageError(
                f"a proxy and a share need runs on a disk, and the run is {folder}; name another with --run"
            )
        pair = check_pair(pool, spec, model, folder, signals, beside, engine=engine, overwrite=overwrite)
        scored = run_pair(pair, selector.asks_share, progress)
        return _chosen(scored, selector, keep, seed, out, out_format)
    scoring = check_score(pool, spec, str(folder), signals=signals, engine=engine, overwrite=overwrite)
    if tunes:
        assert chosen.training is not None
        if isinstance(folder, StorePath):
            raise UsageError(f"{name} fine-tunes, which needs a disk, and the run is {folder}; name another with --run")
        tuned = folder.with_name(f"{folder.name}-tuned")
        tuning = check_tuning(pool, scoring.model or spec.name, tuned, chosen.training)
        made = fine_tune(tuning, resume=not overwrite, progress=training_progress)
        scoring = scoring.with_models(checkpoints(made))
    asked = selector.asks_share and len(scoring.models) == 1
    if asked and not engine.spreads:
        scoring = scoring.opened()
    scored = run_score(scoring, progress)
    if asked:
        from vlmsift.plants.share import tell_share

        scoring = scoring.opened()
        tell_share(scored, pool, scoring.models[0], engine=scoring.engine)
    return _chosen(scored, selector, keep, seed, out, out_format)


def _chosen(run: Run, selector: Selector, keep: Any, seed: int, out: str | Path, out_format: str | None) -> Selection:
    """Select, keep the choice in the run, and export."""
    from vlmsift.selecting import select

    selection = select(run, selector, keep, seed=seed)
    selection.save(SAVED)
    selection.export(out, format=out_format)
    return selection


def _in_place_of(model: Any, proxy: str | Path | ModelSpec) -> ModelSpec:
    """The proxy, on the device and in the precision of the model where it is but a name."""
    if isinstance(proxy, ModelSpec):
        return proxy
    known = isinstance(model, ModelSpec)
    return replace(model, model=proxy, revision=None, chat_template=None) if known else ModelSpec(proxy)


def make_method(
    method: str | None = None,
    *,
    config: str | Path | None = None,
    signals: Sequence[str] | None = None,
    selector: str | None = None,
    recipe: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Method:
    """A method from words: one of the table with other parts in place of its own, or what `calibrate` recommends.

    Args:
        config: a file that `calibrate` wrote, in place of a method, its signals and selector.
        signals, selector: in place of the method's own, as "trajectory=image_spectrum:attention=released".
        recipe, changes: of the fine-tune that the method makes; see `vlmsift.train.train`.

    Raises:
        UsageError: words that cannot be meant, or that do not go together.
    """
    from vlmsift.methods import find_method
    from vlmsift.signals import build_signals

    if config is not None:
        if signals or selector:
            raise UsageError(f"config={str(config)!r} names signals and how to select; leave signals and selector out")
        if method is not None:
            told = f"config={str(config)!r} says how to select already"
            raise UsageError(f"{told}; give it or method={method!r}, not both")
        return _configured(config)
    name = method or DEFAULT
    found = replace(find_method(name), called=name)
    if signals is not None:
        found = replace(found, signals=build_signals(list(signals)))
    if selector is not None:
        found = replace(found, selector=selector)
    if recipe is not None or changes:
        if found.training is None:
            raise UsageError(f"{name} fine-tunes nothing, so recipe={recipe!r} and changes={changes!r} mean nothing")
        found = replace(found, training=found.training.changed(recipe, changes), retrained=True)
    return found


def _configured(config: str | Path) -> Method:
    """What a calibration recommends, as a method."""
    from vlmsift.selectors import Top
    from vlmsift.signals.config import load_config

    found = load_config(config)
    how = {key: value for key, value in found.select.items() if key != "keep"}
    return Method(
        signals=found.signals,
        selector=Top(**how),
        source="calibrate",
        about=f"What the calibration in {config} recommends.",
        keep=found.select.get("keep", "20%"),
        called=f"config={str(config)!r}",
    )
