"""`sift`: one call that scores, selects and exports, with a fine-tune before where the method asks for one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmsift.errors import UsageError

if TYPE_CHECKING:
    from vlmsift.choosing.selection import Selection
    from vlmsift.methods.method import Method
    from vlmsift.models import Adapter
    from vlmsift.pools import Pool


def sift(
    pool: str | Path | Pool,
    model: str | Path | Adapter | Sequence[str | Path],
    out: str | Path,
    *,
    method: str | None = None,
    config: str | Path | None = None,
    keep: float | str | None = None,
    signals: Sequence[str] | None = None,
    selector: str | None = None,
    run: str | Path | None = None,
    trained: bool = False,
    recipe: str | None = None,
    changes: Mapping[str, Any] | None = None,
    seed: int = 0,
    format: str | None = None,
    pool_format: str | None = None,
    images: str | Path | None = None,
    source_field: str | None = None,
    training_progress: Callable[[int, int, float], None] | None = None,
    **scoring: Any,
) -> Selection:
    """Score a pool, select, and export the kept rows to `out`: a whole method in one go.

    A method that needs a fine-tune on the pool (xmas, s2l, bye) makes one, by seed 0, into a folder beside the run.
    Where you have its checkpoints, give them as `model`: a folder of step-N or checkpoint-N folders, or several models
    in order.

    Args:
        method: a name in `METHODS`; None = "delta-attnmask". config: a file that `calibrate` wrote, in place of it.
        keep: a share, a count, or "clean" for methods that judge; None = the method's own.
        signals, selector: words in place of the method's own, as "trajectory=image_spectrum:attention=released".
        run: the run folder; None = beside `out`, named after it. Start again with the same arguments to resume.
        trained: `model` was fine-tuned on this pool already, for methods that need such a one.
        recipe, changes: of the fine-tune, in place of the method's own; see `vlmsift.train`.
        format: of the exported rows; None = the pool's own.
        pool_format: of the pool; None = guessed.
        images, source_field, scoring: further arguments of `vlmsift.score`.

    Raises:
        UsageError: an argument cannot be meant; what can be known before scoring is told before scoring.
    """
    from vlmsift import pipeline
    from vlmsift.choosing.budget import CLEAN, parse_keep
    from vlmsift.methods import find_method
    from vlmsift.methods.tuning import checkpoints, fine_tuned, refuse_unmeasured, to_score
    from vlmsift.pools import FORMATS, open_pool
    from vlmsift.runs.checkpoints import checkpoints_of
    from vlmsift.selecting import select
    from vlmsift.selectors import build_selector
    from vlmsift.signals import build_signals

    if config is not None and (signals or selector):
        raise UsageError(f"config={str(config)!r} names signals and how to select; leave signals and selector out")
    if config is not None and method is not None:
        raise UsageError(f"config={str(config)!r} says how to select already; give it or method={method!r}, not both")
    name = method or "delta-attnmask"
    chosen: Method | None = None if config is not None else find_method(name)
    measured, how = _recipe(chosen, config)
    if signals is not None:
        measured = build_signals(list(signals))
    if selector is not None:
        how["selector"] = build_selector(selector)
    if isinstance(pool, (str, Path)):
        pool = open_pool(pool, images=images, format=pool_format, source_field=source_field)
    keep = how["keep"] if keep is None else keep
    if keep != CLEAN:
        parse_keep(keep, len(pool))
    else:
        how["selector"].check_clean()
    if format is not None and format not in FORMATS:
        raise UsageError(f"no format {format!r}; known are {', '.join(FORMATS)}")
    place = Path(out)
    if place.resolve() == pool.path.resolve():
        raise UsageError(f"{out} is the pool itself; name another file for the kept rows")
    folder = Path(run) if run is not None else place.with_name(f"{place.stem}-run")
    if chosen is None:
        if trained or len(checkpoints_of(model)) > 1:
            raise UsageError(f"config={str(config)!r} measures one model; give one, and leave trained out")
        models, tunes = checkpoints_of(model), False
    else:
        models, tunes = to_score(name, chosen, model, trained)
        refuse_unmeasured(
            name, how["selector"], measured, chosen.training is not None and chosen.training.snapshots > 1
        )
    if (recipe or changes) and not tunes:
        raise UsageError(
            f"nothing is fine-tuned here, so recipe={recipe!r} and changes={changes!r} mean nothing; leave them out"
        )
    if tunes:
        if not scoring.get("overwrite"):  # `score` looks too, but only after the training
            part_size = scoring.get("part_size", pipeline.PART_SIZE)
            pipeline.check_resumable(folder, len(pool), pool.fingerprint(), measured, part_size)
        assert chosen is not None
        assert chosen.training is not None
        if given := [word for word in ("revision", "chat_template", "trust_remote_code") if scoring.get(word)]:
            raise UsageError(
                f"{name} fine-tunes the model first, which takes no {given[0]}={scoring[given[0]]!r}; fine-tune it "
                "yourself, and give the checkpoints"
            )
        made = fine_tuned(
            pool,
            models[0] if isinstance(models[0], (str, Path)) else models[0].name,
            folder.with_name(f"{folder.name}-tuned"),
            chosen.training,
            recipe=recipe,
            changes=changes,
            resume=not scoring.get("overwrite", False),
            progress=training_progress,
            **{key: scoring[key] for key in ("device", "dtype") if key in scoring},
        )
        models = checkpoints(made)
    scored = pipeline.score(pool, models, folder, signals=measured, source_field=source_field, **scoring)
    selection = select(scored, how["selector"], keep, seed=seed)
    selection.export(out, format=format)
    return selection


def _recipe(method: Method | None, config: str | Path | None) -> tuple[Any, dict[str, Any]]:
    """What to score, and the `selector` and `keep`, of a method or a config."""
    if method is not None:
        return method.build_signals(), {"selector": method.build_selector(), "keep": method.keep}
    from vlmsift.selectors import Top
    from vlmsift.signals.config import load_config

    assert config is not None
    found = load_config(config)
    fields = {name: value for name, value in found.select.items() if name != "keep"}
    return found.signals, {"selector": Top(**fields), "keep": found.select.get("keep", "20%")}
