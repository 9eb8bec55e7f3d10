"""The table of methods: named recipes of signals, selector and defaults. `vlmsift sift --method NAME` runs one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmsift.errors import UsageError

if TYPE_CHECKING:
    from vlmsift.formats import Pool
    from vlmsift.models import Adapter
    from vlmsift.pipeline import PoolSelection


@dataclass(frozen=True, slots=True)
class Method:
    """A recipe.

    Attributes:
        signals: what to score, as on the command line. The first is what is selected by.
        pick: which end of it is kept; see `vlmsift.selectors`.
        balance: see `vlmsift.selectors`.
        cost: forwards of the scoring model per sample, L layers, mask at depth d.
        source: where the method comes from.
    """

    signals: tuple[str, ...]
    pick: str
    balance: str
    cost: str
    source: str

    @property
    def by(self) -> str:
        """The column that is selected by."""
        return self.signals[0].partition(":")[0].partition("=")[0]


_GROUPS = ("hidden_mean",)  # lets `balance="auto"` fall back on clusters where answers are open

METHODS: dict[str, Method] = {
    "delta-attnmask": Method(
        ("delta_attnmask", "answer_loss", *_GROUPS), "highest", "auto", "1 + (L-d)/L", "arXiv 2508.09199; balance ours"
    ),
    "delta-attnmask-plain": Method(
        ("delta_attnmask", "answer_loss"), "highest", "none", "1 + (L-d)/L", "arXiv 2508.09199, plain top"
    ),
    "answer-loss": Method(("answer_loss",), "lowest", "none", "1", "lowest perplexity of the answer"),
    "el2n": Method(("el2n",), "highest", "none", "1", "EL2N (Paul et al. 2021), one checkpoint"),
    "image-gain": Method(("image_gain",), "highest", "none", "2", "gain term of MAGIC"),
    "random": Method(("random",), "highest", "none", "1", "the baseline of every table"),
}


def find_method(name: str) -> Method:
    """The method of that name. Raises UsageError naming the others."""
    if name not in METHODS:
        raise UsageError(f"there is no method {name!r}; choose among {', '.join(METHODS)}")
    return METHODS[name]


def sift(
    pool: str | Path | Pool,
    model: str | Path | Adapter,
    out: str | Path,
    *,
    method: str | None = None,
    config: str | Path | None = None,
    keep: str | int = "20%",
    run: str | Path | None = None,
    seed: int = 0,
    format: str | None = None,
    pool_format: str | None = None,
    images: str | Path | None = None,
    source_field: str | None = None,
    **scoring: Any,
) -> PoolSelection:
    """Score a pool, select, and export the kept rows to `out`: a whole method in one go.

    Args:
        method: a name in `METHODS`; None = "delta-attnmask". config: a file that `calibrate` wrote, in place of it.
        run: the run folder; None = beside `out`, named after it. Start again with the same arguments to resume.
        format: of the exported rows; None = the pool's own.
        pool_format: of the pool; None = guessed.
        images, source_field, scoring: further arguments of `vlmsift.score`.

    Raises:
        UsageError: an argument cannot be meant; what can be known before scoring is told before scoring.
    """
    from vlmsift import pipeline
    from vlmsift.formats import FORMATS, open_pool
    from vlmsift.selectors.budget import parse_keep

    if config is not None and method is not None:
        raise UsageError(f"config={str(config)!r} says how to select already; give it or method={method!r}, not both")
    signals, how = _recipe(method or "delta-attnmask", config)
    if isinstance(pool, (str, Path)):
        pool = open_pool(pool, images=images, format=pool_format, source_field=source_field)
    parse_keep(keep, len(pool))
    if format is not None and format not in FORMATS:
        raise UsageError(f"no format {format!r}; known are {', '.join(FORMATS)}")
    place = Path(out)
    if place.resolve() == pool.path.resolve():
        raise UsageError(f"{out} is the pool itself; name another file for the kept rows")
    folder = Path(run) if run is not None else place.with_name(f"{place.stem}-run")
    scored = pipeline.score(pool, model, folder, signals=signals, source_field=source_field, **scoring)
    selection = pipeline.select(scored, **{**how, "keep": keep, "seed": seed})
    selection.export(out, format=format)
    return selection


def _recipe(method: str, config: str | Path | None) -> tuple[Any, dict[str, Any]]:
    """What to score, and arguments of `select`, of a method or a config."""
    if config is None:
        recipe = find_method(method)
        return recipe.signals, {"by": recipe.by, "pick": recipe.pick, "balance": recipe.balance}
    from vlmsift.signals.config import load_config

    found = load_config(config)
    return found.signals, found.select
