"""The table of methods: that every entry can be meant, that it is documented, and what a new one takes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import vlmsift
from tests.methods import toy
from tests.methods.contracts import CONTRACTS
from tests.methods.samples import Bench
from tests.models.helpers import hand_batch
from vlmsift.cli import main
from vlmsift.demo import START_PATH
from vlmsift.demo.pool import make_pool
from vlmsift.errors import UsageError
from vlmsift.methods import METHODS, find_method
from vlmsift.passes.masking import choose_tokens
from vlmsift.selectors import SELECTORS
from vlmsift.signals import SIGNALS
from vlmsift.terminal.methods import methods_markdown

DOCUMENT = Path(__file__).parents[2] / "docs" / "methods.md"
ASKED_FOR = """xmas attention-influence bye coincide s2l semdedup ifd el2n perplexity-low perplexity-middle
perplexity-high image-gain facility-location k-center length random full delta-attnmask delta-attnmask-late
judge-cover"""


def test_every_method_asked_for_is_there() -> None:
    assert set(ASKED_FOR.split()) <= set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_a_recipe_that_exists(name: str) -> None:
    method = find_method(name)
    columns = method.build_signals()
    selector = method.build_selector()
    assert set(selector.columns) <= set(columns)
    assert set(selector.name.split(" then ")) <= set(SELECTORS)
    if not isinstance(method.signals, dict):
        assert all(signal.name in SIGNALS for signal in columns.values())
    if method.keep == "clean":
        selector.check_clean()
    assert method.forwards(32) >= 0
    assert method.source
    assert method.about.endswith(".")
    assert (method.training is not None) <= ("fine-tune" in method.needs), "what it costs is told"
    if "balance" in vars(selector) and selector.balance == "auto":
        assert "hidden_mean" in columns, "clusters need a vector"


def test_late_masks_a_fifth_of_the_context_sinks_included_before_the_last_layer() -> None:
    """Ten tokens of prompt and image: the sink that receives most, and the next; neither answers nor special tokens."""
    masking: Any = find_method("delta-attnmask-late").build_signals()["delta_late"]
    scores = torch.tensor([[9.0, 8.0, 0.1, 0.1, 0.1, 0.1, 0.2, 0.1, 0.1, 0.1, 0.1, 5.0, 5.0]])
    chosen = choose_tokens(masking, hand_batch("spppppiiiiiaa"), scores)
    assert chosen.nonzero()[:, 1].tolist() == [1, 6]
    assert masking.layer(24) == 23


def test_a_name_that_is_unknown() -> None:
    with pytest.raises(UsageError, match=r"there is no method 'xmass'; choose among judge-cover, .*, full"):
        find_method("xmass")


def test_the_document_holds_the_table() -> None:
    between = re.search(r"<!-- vlmsift methods --markdown -->\n(.*?)<!-- end -->", DOCUMENT.read_text(), re.DOTALL)
    assert between is not None
    assert between[1].strip() == methods_markdown().strip(), "write the output of `vlmsift methods --markdown` there"


def run(*words: Any) -> None:
    with pytest.raises(SystemExit) as ending:
        main([str(word) for word in words])
    assert not ending.value.code


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pool(tmp_path_factory.mktemp("digits"), 60, 0)


def sifted(name: str, digits: Path, folder: Path, more: Sequence[str] = ()) -> list[str]:
    """Ids that `vlmsift sift` keeps of the demo's pool."""
    out = folder / "kept.json"
    run("sift", digits, "--model", START_PATH, "--method", name, "--out", out, "--workers", 0, *more)
    return [row["id"] for row in json.loads(out.read_text())]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_runs_on_the_demo_pool(
    name: str, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "attention-influence":  # as it is, but for fewer probes
        monkeypatch.setitem(METHODS, name, replace(METHODS[name], signals=("attention_influence:probes=20",)))
    shown = name in ("judge-cover", "xmas")  # a judge and a cover; vectors along checkpoints
    kept = sifted(name, digits, tmp_path, ("--keep", "20%", *([] if shown else ["--no-report"])))
    assert len(set(kept)) == len(kept) == 12
    assert (tmp_path / "kept-report.html").exists() is shown
    assert "12 of 60 rows kept" in capsys.readouterr().out


def test_a_method_of_its_own_file_and_one_line(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(Path(toy.__file__).read_text().splitlines()) <= 25
    monkeypatch.setitem(METHODS, "toy", toy.METHOD)
    run("methods")
    assert "toy" in capsys.readouterr().out
    assert "| `toy` | `brevity` | 0 |" in methods_markdown()
    assert len(sifted("toy", digits, tmp_path, ("--keep", "10"))) == 10
    bench = Bench(tmp_path / "bench")
    for contract in CONTRACTS:
        contract("toy", bench)
    from vlmsift.experiment.plan import Arm
    from vlmsift.experiment.prepare import build_chooser

    chooser = build_chooser(Arm("toy"), vlmsift.open_pool(digits))
    assert chooser.selector == toy.METHOD.build_selector()
