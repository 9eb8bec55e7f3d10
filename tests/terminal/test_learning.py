"""What calibrating, training and validating print: every figure is the result's, nothing in it is markup."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vlmsift.calibrate import Calibration
from vlmsift.experiment import COLUMNS, State, Validation
from vlmsift.terminal import learning
from vlmsift.train import Trained
from vlmsift.train.configs import Configs


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def calibration(**changes: Any) -> Any:
    """A calibration of 20 candidates, as `calibrate` hands it over."""
    row = {"good_end": "lowest", "forwards": 1.0, "auroc_mean": 0.801, "low_mean": 0.7, "high_mean": 0.9}
    row |= {"spearman_answer_tokens": 0.111, "spearman_answer_loss": 0.222}
    table = [{"signal": "delta[bold]", **row}, *({"signal": f"other-{number}", **row} for number in range(19))]
    values: dict[str, Any] = {
        "folder": Path("c"),
        "run": None,
        "table": table,
        "recommended": "delta_attnmask:depth=0.0",
        "column": "deep",
        "counts": {"originals": 40, "wrong_image": 12},
        "left_out": ["cropped_image: 3 of 12 twins are missing"],
        "sentences": ["No single signal beats the loss."],
        "weights": {"answer_loss": -0.5, "image_gain": 0.25},
        "forwards": 12.5,
        "alone": 30.0,
        "seconds": 61.0,
    }
    return Calibration(**{**values, **changes})


def test_a_calibration(capsys: pytest.CaptureFixture[str]) -> None:
    learning.show_calibration(calibration())
    text = said(capsys)
    for part in (
        "Measured: 40 originals, 12 wrong image.",
        "3 of 12 twins are missing",
        "delta[bold]",
        "0.801 [0.700, 0.900]",
        "No single signal beats the loss.",
        "answer_loss -0.50",
        "image_gain +0.25",
        "cost 12.5 text forwards per sample",
        "they would cost 30.0",
        "scored in 61 s; recommended: delta_attnmask:depth=0.0",
        "next: vlmsift score POOL --model M",
        "--config c/calibration.yaml",
    ):
        assert part in text, part
    assert "short trainings" not in text
    assert "0.111" not in text, "the rank correlations are left to the files"
    assert "other-13" in text
    assert "other-14" not in text, "the rest is left to the files"
    assert "bootstrap" not in text, "so is the explanation"


def test_a_calibration_with_a_probe_shows_both_columns(capsys: pytest.CaptureFixture[str]) -> None:
    probe: Any = SimpleNamespace(records=lambda: [{"setting": "top", "held-out exact": "0.333"}])
    learning.show_calibration(calibration(probe=probe, weights={}))
    text = said(capsys)
    assert "short trainings" in text
    assert "0.333" in text
    assert "0.801" in text
    assert "Weights of" not in text


def test_a_training(capsys: pytest.CaptureFixture[str]) -> None:
    skipped = {"a": "missing image: x", "b": "missing image: y", "c": "too long: 9 tokens"}
    learning.show_trained(Trained(Path("out"), 1200, 75, 61.4, 0.52341, False, skipped))
    text = said(capsys)
    assert "1,200 samples, 75 steps, 61 s, loss 0.5234 nats; the model is in out" in text
    assert "skipped: 2 x missing image skipped: 1 x too long" in text
    assert "DIVERGED" not in text
    learning.show_trained(Trained(Path("out"), 10, 5, 1.0, float("nan"), True, {}))
    assert "the training DIVERGED" in said(capsys)


def test_configurations(capsys: pytest.CaptureFixture[str]) -> None:
    files = [Path("o") / name for name in ("data.jsonl", "llama_factory.yaml", "ms_swift.yaml")]
    learning.show_configs(Configs(Path("o"), *files, 7, {"a": "no answer: x"}, "llava", ("No such thing there.",)))
    text = said(capsys)
    assert "7 samples in o/data.jsonl" in text
    assert "llamafactory-cli train o/llama_factory.yaml" in text
    assert "note: No such thing there." in text
    assert "skipped: 1 x no answer" in text


def row(**changes: Any) -> dict[str, Any]:
    values = {"method": "random", "budget": "20%", "schedule": "epochs", "augmentation": "none", "seeds": 5}
    numbers = {"steps": 40.0, "accuracy": 0.5, "accuracy_std": 0.01, "relative": 90.0, "cost_ratio": 0.2}
    return {**dict.fromkeys(COLUMNS), **values, **numbers, **changes}


def test_a_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(), row(method="mine", accuracy=0.61234, accuracy_std=None, above_random=True, cost_ratio=None)]
    files = {"table": Path("t.parquet"), "markdown": Path("t.md")}
    learning.show_validation(Validation(rows, ["a note"], {"cell-1": "it broke"}, ["cell-2"], **files))
    text = said(capsys)
    assert "0.500 ± 0.010" in text
    assert "0.612" in text
    assert "yes" in text
    assert "schedule" not in text, "it is the same in all rows"
    assert "training s" not in text
    assert "written: t.parquet, t.md" in text
    assert "Notes" not in text, "headings are for pages"
    assert " a note" in text
    assert "failed: cell-1: it broke" in text
    assert "1 cells are not finished" in text


def test_a_shard_has_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    learning.show_validation(Validation([row()], [], {}, ["cell-2"]))
    assert said(capsys) == "1 cells are not finished; the same command goes on with them"


def test_progress_comes_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(learning.time, "monotonic", lambda: now[0])
    with learning.training_bar() as tell:
        for step in range(1, 31):
            tell(step, 30, 0.5)
            now[0] += 1.0
    told = capsys.readouterr().err.splitlines()
    assert told == [f"training: step {step} of 30, loss 0.500" for step in (1, 11, 21)]
    with learning.validation_bar() as show:
        show(State(3, 9, "random-20pct", 4, 10))
        show(State(3, 9, "random-20pct", 5, 10))
    assert capsys.readouterr().err == "validating: 3 of 9 cells done; random-20pct, 4 of 10\n"
