"""The commands that learn, as their users meet them: calibrate, score by its config, train, validate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.test_cli import Vlmsift, vlmsift_, without  # noqa: F401
from vlmsift.demo import MODEL_PATH
from vlmsift.demo.pool import make_pool
from vlmsift.models import open_model
from vlmsift.runs.run import Run

FAST = ["--set", "batch_size=8", "--set", "gradient_checkpointing=False", "--set", "learning_rate=1e-4"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a blank in its name: `pool/pool.json` of 40 digits' samples, `test/pool.json` of 20."""
    folder = tmp_path_factory.mktemp("learning") / "my data"
    make_pool(folder / "pool", size=40, seed=1)
    make_pool(folder / "test", size=20, seed=2, spoiled=0)
    return folder


def test_calibrate_then_score_and_sift_by_its_config(vlmsift_: Vlmsift, home: Path) -> None:  # noqa: F811
    pool, out = home / "pool" / "pool.json", home / "calibration"
    few = ["--sample", 30, "--twins", 10, "-s", "delta_attnmask", "-s", "d0=delta_attnmask:depth=0.0"]
    code, said, _ = vlmsift_("calibrate", pool, "-m", MODEL_PATH, "-o", out, *few, "-s", "answer_loss", "--workers", 0)
    assert code == 0
    assert "recommended: " in said
    assert "Measured: " in said
    config = yaml.safe_load((out / "calibration.yaml").read_text())
    assert str(out / "calibration.yaml") in without(said)
    code, said, _ = vlmsift_(
        "score", pool, "-m", MODEL_PATH, "-o", home / "run", "--config", out / "calibration.yaml", "--workers", 0
    )
    assert code == 0
    columns = set(Run.open(home / "run").settings["identity"]["signals"])
    assert {word.partition(":")[0].partition("=")[0] for word in config["signals"]} <= columns
    kept = home / "kept.json"
    code, _, _ = vlmsift_(
        "sift", pool, "-m", MODEL_PATH, "-o", kept, "--config", out / "calibration.yaml", "--keep", 8, "--workers", 0
    )
    assert code == 0
    assert len(json.loads(kept.read_text())) == 8


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("score", "-o", "run2", "--config", "no.yaml"), "config no.yaml cannot be read"),
        (("sift", "-o", "k.json", "--config", "no.yaml", "--method", "random"), "give it or method='random', not both"),
        (("score", "-o", "run2", "--config", "no.yaml", "-s", "random"), "names the signals already"),
        (("calibrate", "-o", "c", "--grid", "huge"), "'huge'"),
        (("calibrate", "-o", "c", "--plant", "rain"), "'rain'"),
        (("calibrate", "-o", "c", "--probe-test", "x.json"), "probe_test='x.json' is only read by a probe"),
        (("calibrate", "-o", "c", "--recipe", "llava-1.5"), "recipe='llava-1.5' is only read by a probe"),
        (("calibrate", "-o", "c", "--set", "epochs=3"), "changes={'epochs': 3} is only read by a probe"),
        (("calibrate", "-o", "c", "--grid", "small", "-s", "el2n"), "--grid small and --signal el2n both say"),
        (("train", "-o", "t", "--recipe", "mine"), "'mine'"),
        (("train", "-o", "t", "--set", "epochs"), "write field=value"),
        (("train", "-o", "t", "--set", "epoch=3"), "'epoch'"),
        (("train", "-o", "t", "--augment", "topp"), "no augmentation 'topp'"),
        (("train", "-o", "t", "--augment", "top", "--configs"), "no counterpart"),
    ],
)
def test_a_mistake_is_a_sentence(
    vlmsift_: Vlmsift,  # noqa: F811
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[Any, ...],
    told: str,
) -> None:
    monkeypatch.chdir(home)
    command, *rest = arguments
    code, _, error = vlmsift_(command, home / "pool" / "pool.json", "-m", MODEL_PATH, *rest)
    assert code == 2
    assert told in without(error)
    assert "Traceback" not in error


def test_train_writes_a_model_that_opens(vlmsift_: Vlmsift, home: Path) -> None:  # noqa: F811
    pool, out = home / "pool" / "pool.json", home / "trained"
    augmented = ["--augment", "top:depth=0.2", "--augment-probability", 1.0]
    code, said, _ = vlmsift_("train", pool, "-m", MODEL_PATH, "-o", out, *FAST, *augmented)
    assert code == 0
    assert "40 samples, 5 steps" in said
    assert open_model(out).depth == 5
    recorded = json.loads((out / "train.json").read_text())
    assert "probability" in json.dumps(recorded)
    code, _, error = vlmsift_("train", pool, "-m", MODEL_PATH, "-o", out, *FAST)
    assert code == 2
    assert "train.json" in error or str(out) in error


def test_train_keeps_snapshots_and_says_where(vlmsift_: Vlmsift, home: Path) -> None:  # noqa: F811
    pool, out = home / "pool" / "pool.json", home / "with snapshots"
    code, said, _ = vlmsift_("train", pool, "-m", MODEL_PATH, "-o", out, *FAST, "--snapshots", 3)
    assert code == 0
    assert without(f"3 snapshots in {out / 'snapshots'}: step-2, step-3, step-5") in without(said)
    assert sorted(path.name for path in (out / "snapshots").iterdir()) == ["step-2", "step-3", "step-5"]
    code, _, error = vlmsift_("train", pool, "-m", MODEL_PATH, "-o", out, *FAST, "--snapshots", -1)
    assert code == 2
    assert "snapshots=-1" in error
    code, _, error = vlmsift_("train", pool, "-m", MODEL_PATH, "-o", out, "--configs", "--snapshots", 3)
    assert code == 2
    assert "leave it out with --configs" in without(error)


def test_train_writes_configurations_instead(vlmsift_: Vlmsift, home: Path) -> None:  # noqa: F811
    out = home / "elsewhere"
    code, said, _ = vlmsift_("train", home / "pool" / "pool.json", "-m", MODEL_PATH, "-o", out, "--configs")
    assert code == 0
    assert "llamafactory-cli train" in said
    assert "swift sft --config" in said
    assert {path.suffix for path in out.iterdir()} >= {".yaml", ".jsonl", ".json"}


def test_validate_prints_the_table_and_says_where(vlmsift_: Vlmsift, home: Path) -> None:  # noqa: F811
    recipe = {"name": "llava-1.5", "batch_size": 8, "learning_rate": 1e-4, "gradient_checkpointing": False}
    plan = {
        "pool": "pool/pool.json",
        "test": "test/pool.json",
        "model": str(MODEL_PATH),
        "methods": ["full", "random"],
        "budgets": "20%",
        "seeds": 2,
        "recipe": recipe,
        "out": "compared",
    }
    (home / "plan.yaml").write_text(yaml.safe_dump(plan))
    code, _, _ = vlmsift_("validate", home / "plan.yaml", "--shard", "0/2")
    assert code == 0
    code, said, _ = vlmsift_("validate", home / "plan.yaml")
    assert code == 0
    assert "random" in said
    assert "table.parquet" in without(said)
    assert (home / "compared" / "figure.png").exists()
    code, _, error = vlmsift_("validate", home / "plan.yaml", "--shard", "first")
    assert code == 2
    assert "give i/n" in error
