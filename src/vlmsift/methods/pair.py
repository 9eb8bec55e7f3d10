"""A proxy and a target for one method. In: both, and a share of the rows. Out: a run with the target's numbers, told.

run-proxy/   the proxy's run, of all rows     run-share/   the target's, of the share     run/   what both tell
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmsift.errors import UsageError
from vlmsift.methods.method import Method
from vlmsift.proxy import FEWEST, check_predicted, predict

if TYPE_CHECKING:
    from vlmsift.models import Adapter
    from vlmsift.pools import Pool
    from vlmsift.runs.run import Run
    from vlmsift.scoring.job import ScoreJob
    from vlmsift.scoring.score import Progress
    from vlmsift.selectors import Selector
    from vlmsift.specs import EngineSpec, ModelSpec
    from vlmsift.types import Signal

DEPTH = 32  # layers of the decoder that forwards are counted for


@dataclass(frozen=True)
class Pair:
    """Both scorings, checked."""

    proxy: ScoreJob
    target: ScoreJob
    out: Path  # the run that is made of both
    where: str  # condition on the proxy's run: the share
    columns: tuple[str, ...]  # to be told
    vectors: tuple[str, ...]  # of the method, taken over from the proxy


@dataclass(frozen=True)
class Share:
    """Which rows the target scores, and for which columns."""

    part: Decimal  # above 0, below 1
    columns: tuple[str, ...]

    @property
    def where(self) -> str:
        """As a condition: by a hash of the id, so that neither the seed nor the rest of the pool moves a row."""
        return f"md5(id) < '{int(self.part * 16**8):08x}'"


def check_share(
    name: str,
    method: Method,
    selector: Selector,
    signals: Mapping[str, Signal],
    proxy: Any,
    share: str | float,
) -> Share | None:
    """What the target scores beside a proxy; None = nothing. Raises UsageError for a share that cannot be meant."""
    columns = tuple(column for column in selector.reads if column in signals and not signals[column].is_vector)
    part = parse_share(share)
    if not part:
        return None
    if proxy is None:
        raise UsageError(f"share={share!r} is of the rows that the model scores beside a proxy; give proxy too")
    if method.training is not None:
        raise UsageError(
            f"{name} follows a fine-tune of the proxy, which is not told from a share={share!r}; leave it out"
        )
    if not columns:
        raise UsageError(
            f"{name} chooses by no number that could be told from a share={share!r}; leave it out, or give 0"
        )
    return Share(part, columns)


def parse_share(share: str | float) -> Decimal:
    """0 to below 1, from "5%" or 0.05. Raises UsageError."""
    text = str(share).strip()
    whole = 100 if text.endswith("%") else 1
    with suppress(InvalidOperation):  # no number, or nan
        if 0 <= (part := Decimal(text.removesuffix("%").strip()) / whole) < 1:
            return part
    raise UsageError(f"share={share!r} is no share from 0 to below 100%; give one such as '5%' or 0.05")


def check_pair(
    pool: Pool,
    proxy: ModelSpec | Adapter,
    model: str | Path | ModelSpec | Adapter | Sequence[str | Path],
    out: Path,
    signals: Mapping[str, Signal],
    share: Share,
    *,
    engine: EngineSpec | None = None,
    overwrite: bool = False,
) -> Pair:
    """Both scorings as by `check_score`, and the folder `out`. The proxy measures all that costs no more forwards."""
    from vlmsift.scoring.job import check_score
    from vlmsift.signals import DEFAULT_SIGNALS, build_signals, forwards

    check_predicted(out, overwrite)
    if (rows := int(share.part * len(pool))) < FEWEST:
        told = f"the share is about {rows} of {len(pool)} rows, and {FEWEST} that both models measured are the fewest"
        raise UsageError(f"{told} to learn from; give a larger share, or 0 for the proxy alone")
    more = {name: one for name, one in build_signals(DEFAULT_SIGNALS).items() if name not in (*signals, "random")}
    paid = forwards(signals.values(), DEPTH)
    free = {name: one for name, one in more.items() if forwards([*signals.values(), one], DEPTH) == paid}
    how: dict[str, Any] = {"engine": engine, "overwrite": overwrite}
    small = check_score(pool, proxy, out.with_name(f"{out.name}-proxy"), signals={**signals, **free}, **how)
    wanted = {name: signals[name] for name in share.columns}
    place = out.with_name(f"{out.name}-share")
    large = check_score(pool, model, place, signals=wanted, asks_later=True, **how)
    if len(large.models) > 1:
        raise UsageError(
            f"{len(large.models)} models are given, and a proxy stands for one; name the one to be trained"
        )
    vectors = tuple(name for name, signal in signals.items() if signal.is_vector)
    return Pair(small, large, out, share.where, share.columns, vectors)


@dataclass
class _Both:
    """Progress over two scorings as over one, which grows when the second begins."""

    progress: Callable[[Progress], None]
    before: Progress | None = None  # where the first stood in the end
    last: Progress | None = None

    def __call__(self, state: Progress) -> None:
        first = {} if self.before is None else vars(self.before)
        self.last = replace(state, **{name: value + getattr(state, name) for name, value in first.items()})
        self.progress(self.last)


def run_pair(pair: Pair, plants: bool, progress: Callable[[Progress], None] | None = None) -> Run:
    """Score both, and tell the rest. `plants`: let planted twins tell the spoiled share too, by the proxy."""
    from vlmsift.plants.share import tell_share
    from vlmsift.runs.spoiled import write_spoiled
    from vlmsift.scoring.score import run_score

    both = None if progress is None else _Both(progress)
    small = pair.proxy if pair.proxy.engine.spreads else pair.proxy.opened()
    scored = run_score(small, both)
    told = None
    if plants:
        small = small.opened()
        told = tell_share(scored, small.pool, small.models[0], engine=small.engine)
    del small  # before the large one is opened
    if both is not None:
        both.before = both.last
    share = run_score(pair.target.asking(pair.where, scored), both)
    made = predict(scored, share, pair.out, pair.columns, pair.vectors, overwrite=pair.target.overwrite)
    if told is not None:
        write_spoiled(made.folder, told)
    return made
