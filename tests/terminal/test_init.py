"""What the command line prints, read as a newcomer reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sample_runs import make_run
from vlmsift.runs.run import Run
from vlmsift.scoring.score import Progress
from vlmsift.selecting import select
from vlmsift.terminal import Shown, progress_bar, show_run, show_selection, show_signals

ROWS = 40


def finished(folder: Path, **fixed: Any) -> Run:
    """40 rows: 4 text-only without a value, 3 errors of 2 kinds, answers "yes" and "no" in turn."""
    values = np.linspace(-1.0, 2.9, ROWS)
    text, errors = slice(0, 4), {10: "missing image: 'a.png' is not a file", 11: "missing image: 'b'", 12: "too long"}
    values[[0, 1, 2, 3, *errors]] = np.nan
    images = np.ones(ROWS, np.int32)
    images[text] = 0
    reasons = [errors.get(row) for row in range(ROWS)]
    fixed = {"answer_key": ["yes", "no"] * (ROWS // 2), "images": images, "reason": reasons, **fixed}
    return make_run(folder, {"delta_attnmask": values, "loss": np.arange(ROWS)}, part_size=16, **fixed)


def lines(captured: Any) -> list[str]:
    return str(captured.readouterr().out).splitlines()


def test_a_run_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished(tmp_path / "my run")
    show_run(run, Progress(ROWS, ROWS, 3, waited=2.0, seconds=8.0))
    assert lines(capsys) == [
        "37 of 40 rows scored in 8.0 s; the model waited for samples 25% of the time",
        "  4 rows have no image",
        "  delta_attnmask is undefined (null) for 4 scored rows",
        "3 error rows, which are never selected:",
        "  2 x missing image; the first is 's10': 'a.png' is not a file",
        "  1 x too long; the first is 's12'",
        f"the run is in {run.folder}",
        f"next: vlmsift select '{run.folder}' --selector top:by=delta_attnmask --keep 20%",
    ]


def test_a_run_without_a_scored_row_has_no_next_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_run(make_run(tmp_path / "run", {"loss": [np.nan] * 2}, reason=["too long", "too long"]), None)
    told = lines(capsys)
    assert told[0] == "0 of 2 rows scored"
    assert not any("next" in line for line in told)


def test_a_selection_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_selection(select(finished(tmp_path / "run"), keep="50%"), "saved")
    assert lines(capsys) == [
        "20 of 40 rows kept: the highest delta_attnmask, 1.2 to 2.9 nats (all rows: -0.6 to 2.9)",
        "  18 of 33 rows with images, balanced by answer (2 groups; auto: 100% have a short answer that repeats)",
        "  2 of 4 text-only rows, drawn at random",
        "dropped: 17 ranked lower, or not drawn, 3 error rows",
        "saved",
    ]


BAND = "top:pick=band,balance=none,low=0,high=2.8"


@pytest.mark.parametrize(
    ("selector", "how", "line"),
    [
        ("top:balance=none", {}, "  16 of 33 rows with images, not balanced"),
        ("top:balance=source", {}, "  16 of 33 rows with images, balanced by source (1 group)"),
        ("top", {"where": "loss > 20"}, "dropped: 1 ranked lower, or not drawn, 3 error rows, 18 not (loss > 20)"),
        ("top", {"text_only": "drop"}, "dropped: 15 ranked lower, or not drawn, 3 error rows, 4 text-only"),
        ("top:by=loss,pick=lowest", {}, "18 of 40 rows kept: the lowest loss, 0 to 22 nats (all rows: 0 to 39)"),
        (BAND, {"keep": 28}, "  24 of 26 rows with images, not balanced"),
        (
            BAND,
            {"keep": 28},
            "dropped: 2 ranked lower, or not drawn, 3 error rows, 7 delta_attnmask is outside the band 0 to 2.8",
        ),
    ],
)
def test_each_way_of_choosing_is_told(
    selector: str, how: dict[str, Any], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_selection(select(finished(tmp_path / "run"), selector, **{"keep": 18, **how}), "saved")
    assert line in lines(capsys)


def test_a_selection_of_a_table_is_told_without_units(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_selection(select(finished(tmp_path / "run").table(), "top:by=loss", 4), "saved")
    assert lines(capsys)[0] == "4 of 40 rows kept: the highest loss, 36 to 39 (all rows: 0 to 39)"


def test_what_auto_chose_without_short_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished(tmp_path / "run", answer_key=[None] * ROWS)
    show_selection(select(run, keep=7), "saved")
    why = "auto: most answers do not repeat, and there is no hidden_mean to cluster"
    assert f"  6 of 33 rows with images, balanced by source (1 group; {why})" in lines(capsys)


STATES = [Progress(1000, 200), *(Progress(1000, 200 + 100 * n, n, seconds=4.0 * n) for n in range(1, 9))]


def test_without_a_terminal_a_line_comes_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Shown(None, every=10.0)
    for state in STATES:
        shown(state)
    assert capsys.readouterr().err.splitlines() == [
        "scoring: 1,000 rows, 200 of them before",
        "scoring: 500 of 1,000 (50%), 25.0 samples/s, 0:00:20 left, 3 errors",
        "scoring: 800 of 1,000 (80%), 25.0 samples/s, 0:00:08 left, 6 errors",
        "scoring: 1,000 of 1,000 (100%), 25.0 samples/s, 8 errors",
    ]
    assert shown.last == STATES[-1]
    assert shown.last is not STATES[-1], "the pipeline goes on changing its own"


def test_a_bar_has_the_same_numbers() -> None:
    from rich.progress import Progress as Bar

    bar = Bar(disable=True)
    shown = Shown(bar)
    for state in STATES[:4]:
        shown(state)
    assert (bar.tasks[0].completed, bar.tasks[0].total) == (500, 1000)
    assert bar.tasks[0].fields["pace"] == "25.0 samples/s, 0:00:20 left, 3 errors"


def test_stopping_says_what_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), progress_bar():
        raise KeyboardInterrupt
    assert "stopped; finished parts are kept, and the same command goes on from there" in capsys.readouterr().err


def test_the_tables_name_every_entry(capsys: pytest.CaptureFixture[str]) -> None:
    from vlmsift.signals import SIGNALS
    from vlmsift.signals.delta_attnmask import DeltaAttnMask

    show_signals()
    told = "\n".join(lines(capsys))
    assert all(f"\n{name} " in f"\n{told}" for name in SIGNALS)
    assert f"depth={DeltaAttnMask().depth}, ratio={DeltaAttnMask().ratio}, " in told


def test_what_is_not_ranked_by_a_number_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vectors = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
    run = make_run(tmp_path / "run", {"trajectory": vectors})
    show_selection(select(run, "trajectories:clusters=4", 10), "saved")
    told = lines(capsys)
    assert told[0] == "10 of 40 rows kept: chosen by trajectories from trajectory"
    assert told[1] == "  10 of 40 rows with images, 4 clusters"
    rows = np.random.default_rng(0).normal(size=(ROWS, 2)) * [0.1, 0.1] + 3
    rows[:9, 1] -= 2
    run = make_run(tmp_path / "poisoned", {"entropy_profile": rows.astype(np.float32)})
    show_selection(select(run, "mixture:fewest=10", "clean"), "saved")
    told = lines(capsys)
    assert told[0] == "31 of 40 rows kept: chosen by mixture from entropy_profile"
    assert told[1] == "  31 of 40 rows with images, 9 suspects, by layers 1"
    assert told[2] == "dropped: 9 suspects"
    run = make_run(tmp_path / "few", {"entropy_profile": rows.astype(np.float32)})
    show_selection(select(run, "mixture", "clean"), "saved")
    assert lines(capsys)[1] == "  40 of 40 rows with images, too few rows to judge"
