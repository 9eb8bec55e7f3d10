"""The told share: the bound by hand, its interval, what it is kept as, and what is said where nothing can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vlmsift.demo import START_PATH
from vlmsift.demo.pool import make_pool
from vlmsift.errors import UsageError
from vlmsift.models import open_model
from vlmsift.plants import share as module
from vlmsift.plants.layout import Layout
from vlmsift.plants.share import bound, estimate, excess, tell_share
from vlmsift.pools import open_pool
from vlmsift.runs.run import Run
from vlmsift.runs.spoiled import Spoiled, read_spoiled
from vlmsift.scoring.score import score
from vlmsift.specs import EngineSpec, ModelSpec
from vlmsift.types import Sample


def layout_of(originals: int, twins: int) -> Layout:
    """Originals, then one kind of twin of the first of them."""
    first = np.arange(originals + twins) < originals
    of = np.concatenate([np.arange(originals), np.arange(twins)])
    return Layout(of, first, np.ones_like(first), {"wrong_image": ~first}, frozenset(["wrong_image"]))


def scores_of(originals: NDArray[Any], twins: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([originals, twins])


def test_where_the_scores_stand_apart_the_bound_is_the_share() -> None:
    """A third of the originals score as the twins do, the others far above."""
    rng = np.random.default_rng(0)
    bad = rng.normal(-5, 1, 100)
    share, low, high = bound(
        scores_of(np.concatenate([bad, rng.normal(5, 1, 200)]), rng.normal(-5, 1, 300)), layout_of(300, 300)
    )
    assert share == pytest.approx(1 / 3, abs=0.03)
    assert low <= 1 / 3 <= high
    assert 0.15 < low < high < 0.45


def test_a_clean_pool_is_bounded_by_how_many_of_it_look_as_bad() -> None:
    """By hand: twins at 0, 1, ..., 99; a tenth of the originals at 0, the rest at 100. All twins lie below 100."""
    own = np.where(np.arange(100) < 10, 0.0, 100.0)
    share, _, _ = bound(scores_of(own, np.arange(100.0)), layout_of(100, 100))
    assert share == pytest.approx(0.1)


def test_a_model_that_tells_nothing_apart_bounds_nothing() -> None:
    rng = np.random.default_rng(0)
    share, low, high = bound(rng.normal(size=700), layout_of(400, 300))
    assert share > 0.9
    assert low < 0.1
    assert high > 0.99


@pytest.mark.parametrize("truth", [0.0, 0.1, 0.3, 0.5])
def test_the_interval_covers_the_truth_where_spoiled_rows_look_like_twins(truth: float) -> None:
    covered = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        bad = rng.random(400) < truth
        own = np.where(bad, rng.normal(-1, 1, 400), rng.normal(1, 1, 400))
        share, low, high = bound(scores_of(own, rng.normal(-1, 1, 300)), layout_of(400, 300), seed)
        assert low <= share <= high
        covered += low <= truth <= high
    assert covered >= 9


def test_the_lower_end_leaves_out_what_luck_may_leave_over() -> None:
    """A tenth lies far below with no mirror above; of 400 rows luck may explain .061."""
    own = np.concatenate([np.linspace(-1, 1, 360), np.full(40, -9.0)])
    _, low, _ = bound(scores_of(own, np.full(300, -9.0)), layout_of(400, 300))
    assert 0 < low < 0.1 - 0.05


def test_excess_is_what_lies_below_and_has_no_mirror_above() -> None:
    assert excess(np.array([1.0, 2, 3, 4, 5])) <= 0.2
    assert excess(np.concatenate([np.linspace(-1, 1, 81), np.full(20, -9.0)])) == pytest.approx(20 / 101, abs=0.02)
    assert excess(np.array([-1.0, 0, 0, 0, 1])) == 0  # each has its mirror
    assert excess(np.array([3.0])) == 0
    assert excess(np.full(5, 2.0)) == 0


def test_too_few_twins_tell_nothing() -> None:
    values = {"answer_loss": np.ones(25)}
    told = estimate(values, layout_of(20, 5), ["a reason."])
    assert told.share is None
    assert told.sentence() == (
        "How much of this pool is spoiled cannot be told: a reason. 5 twins of 20 samples are too few."
    )


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Run]:
    """A small demo pool, its model, and a run."""
    folder = tmp_path_factory.mktemp("share")
    pool = open_pool(make_pool(folder / "pool", 60, 1))
    model = open_model(ModelSpec(START_PATH, device="cpu"))
    return pool, model, score(pool, model, folder / "run", signals=["answer_tokens"], engine=EngineSpec(workers=0))


def test_it_is_told_once_and_kept_in_the_run(scored: tuple[Any, Any, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    pool, model, run = scored
    told = tell_share(run, pool, model, engine=EngineSpec(workers=0))
    assert told.share is not None
    assert 0 <= told.low <= told.share <= told.high <= 1
    assert told.originals == 60
    assert set(told.twins) == {"wrong_image", "wrong_answer", "blank_image"}
    assert told.sentence().startswith(f"At most {told.share:.0%} of this pool looks spoiled, as far as this model can")
    assert read_spoiled(run.folder) == told
    monkeypatch.setattr(module, "score", None)  # nothing is scored again
    assert tell_share(run, pool, model) == told


def test_the_same_share_whoever_asks(scored: tuple[Any, Any, Run], tmp_path: Path) -> None:
    pool, model, run = scored
    other = score(pool, model, tmp_path / "run", signals=["answer_tokens"], engine=EngineSpec(workers=0))
    first, second = (tell_share(one, pool, model, engine=EngineSpec(workers=0)) for one in (run, other))
    assert (first.share, first.low, first.high) == (second.share, second.low, second.high)


def test_an_overwritten_run_forgets_what_was_told(scored: tuple[Any, Any, Run], tmp_path: Path) -> None:
    pool, model, _ = scored
    how: dict[str, Any] = {"engine": EngineSpec(workers=0)}
    run = score(pool, model, tmp_path / "run", signals=["answer_tokens"], **how)
    tell_share(run, pool, model, **how)
    shorter = open_pool(make_pool(tmp_path / "pool", 40, 2))
    again = score(shorter, model, tmp_path / "run", signals=["answer_tokens"], overwrite=True, **how)
    assert read_spoiled(again.folder) is None
    assert tell_share(again, shorter, model, **how).originals == 40


class Pool:
    """All that plants need of a pool without images, or with one answer."""

    path, image_root, format, source_field = Path("memory.json"), Path(), "llava", None

    def __init__(self, samples: list[Sample]) -> None:
        self.samples, self.ids = samples, [one.id for one in samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def source(self, index: int) -> str | None:
        return None


def test_a_pool_of_which_no_twin_can_be_made_is_told_of(scored: tuple[Any, Any, Run], tmp_path: Path) -> None:
    from vlmsift.types import Turn

    one = [Sample(f"s{n}", n, (Turn("user", "?"), Turn("assistant", "yes")), (), None, {}) for n in range(30)]
    run = score(scored[0], scored[1], tmp_path / "run", signals=["answer_tokens"], engine=EngineSpec(workers=0))
    told = tell_share(run, Pool(one), scored[1])  # type: ignore[arg-type]
    assert told.share is None
    assert "nothing could be planted" in told.sentence()
    assert read_spoiled(run.folder) == told


def test_a_pool_too_small_is_told_of(scored: tuple[Any, Any, Run], tmp_path: Path) -> None:
    one = [scored[0][index] for index in range(5)]
    run = score(scored[0], scored[1], tmp_path / "run", signals=["answer_tokens"], engine=EngineSpec(workers=0))
    told = tell_share(run, Pool(one), scored[1])  # type: ignore[arg-type]
    assert told.share is None
    assert "has 5 usable samples" in told.sentence()


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    assert read_spoiled(tmp_path) is None
    (tmp_path / "plants").mkdir()
    (tmp_path / "plants" / "share.json").write_text('{"share": "much"}')
    with pytest.raises(UsageError, match=r"share\.json cannot be read"):
        read_spoiled(tmp_path)
    assert Spoiled(0.25, 0.1, 0.3, 10, {"wrong_image": 7}).sentence() == (
        "At most 25% of this pool looks spoiled, as far as this model can tell (10% to 30%, by 7 planted twins)."
    )
