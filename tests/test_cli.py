"""The command line as its users meet it: the whole way in three commands or one, and a sentence for each mistake."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import vlmsift
from tests.sample_pools import llava_rows, write_pool
from vlmsift.calibrate import calibrate
from vlmsift.cli import app, main
from vlmsift.experiment.plan import Plan
from vlmsift.methods import sift
from vlmsift.parameters import field_types
from vlmsift.runs.run import Run
from vlmsift.scoring.score import score
from vlmsift.specs import EngineSpec, ModelSpec, PoolSpec
from vlmsift.train import train

ROWS = 30
COMMANDS = (
    "check",
    "score",
    "signals",
    "select",
    "export",
    "report",
    "sift",
    "methods",
    "calibrate",
    "train",
    "validate",
    "demo",
)
Vlmsift = Callable[..., tuple[int, str, str]]


@pytest.fixture
def vlmsift_(capsys: pytest.CaptureFixture[str]) -> Vlmsift:
    """`vlmsift_("select", run, ...)` -> exit code, stdout, stderr."""

    def run(*arguments: Any) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ending:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return int(ending.value.code or 0), said.out, said.err

    return run


@pytest.fixture(scope="module")
def model(toy_path: Callable[[str], Path]) -> Path:
    return toy_path("llava")


@pytest.fixture(scope="module")
def home(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a space and an umlaut: `data.json` of 30 rows, two of them bad, and `run`, scored."""
    folder = tmp_path_factory.mktemp("cli") / "my pööl"
    rows = llava_rows(ROWS, text_only=(3, 14))
    rows[8]["image"] = rows[9]["image"] = "none.png"
    write_pool(folder, rows, "data.json")
    vlmsift.score(
        folder / "data.json",
        model,
        folder / "run",
        signals=["delta_attnmask", "answer_loss"],
        engine=EngineSpec(workers=0),
    )
    return folder


def without(text: str) -> str:
    """Without line breaks and colours, as boxes and narrow terminals put them in."""
    return re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", "", text))


def test_score_select_export(home: Path, model: Path, vlmsift_: Vlmsift, tmp_path: Path) -> None:
    run = tmp_path / "ein Lauf"
    score = ("score", home / "data.json", "-m", model, "-o", run, "-s", "delta_attnmask", "-s", "answer_loss")
    code, out, err = vlmsift_(*score, "--workers", 0)
    assert code == 0
    assert out.startswith("28 of 30 rows scored in ")
    assert "  2 x missing image; the first is 'r8': 'none.png' is not a file" in out
    assert f"next: vlmsift select '{run}' --selector top:by=delta_attnmask --keep 20%" in out
    assert "scoring: 30 rows\n" in err
    assert re.search(r"scoring: 30 of 30 \(100%\), [\d.]+ samples/s, 2 errors", err)
    assert Run.open(run).table().equals(Run.open(home / "run").table())

    code, out, _ = vlmsift_(*shlex.split(out.partition("next: vlmsift ")[2]))
    assert code == 0
    assert "6 of 30 rows kept: the highest delta_attnmask, " in out
    assert "2 error rows" in out

    next_command = shlex.split(out.partition("next: vlmsift ")[2])
    assert next_command == ["export", str(run), "--out", "kept.json"]
    for name in ("kept.json", "kept.jsonl", "kept.parquet", "kept/"):
        code, out, _ = vlmsift_(*next_command[:2], "--out", f"{tmp_path}/{name}")
        assert (code, out) == (0, f"6 kept rows written to {Path(tmp_path / name)}\n")
    rows = json.loads((home / "data.json").read_text())
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert len(kept) == 6
    assert all(row in rows for row in kept)
    assert (tmp_path / "kept" / "state.json").exists()

    code, out, _ = vlmsift_("export", run, "--dropped", "--out-format", "messages", "-o", tmp_path / "rest.jsonl")
    assert (code, out) == (0, f"24 dropped rows written to {tmp_path / 'rest.jsonl'}\n")
    assert all("messages" in json.loads(line) for line in (tmp_path / "rest.jsonl").read_text().splitlines())


def test_sift_is_one_command_and_goes_on(home: Path, model: Path, vlmsift_: Vlmsift, tmp_path: Path) -> None:
    sift = ("sift", home / "data.json", "-m", model, "--workers", 0, "--method", "perplexity-low", "--keep", "10%")
    code, out, _ = vlmsift_(*sift, "-o", tmp_path / "kept.json")
    assert code == 0
    assert "3 of 30 rows kept: the lowest answer_loss" in out
    told = f"written to {tmp_path / 'kept.json'}; the run is in {tmp_path / 'kept-run'}; the report is "
    assert out.endswith(f"{told}{tmp_path / 'kept-report.html'}\n")
    assert 'class="heat"' in (tmp_path / "kept-report.html").read_text()
    assert len(json.loads((tmp_path / "kept.json").read_text())) == 3
    again = ("--run", tmp_path / "kept-run", "--out-format", "sharegpt", "-o", tmp_path / "again.json")
    code, _, err = vlmsift_(*sift, *again)
    assert code == 0
    assert "scoring: 30 rows, 30 of them before" in err
    assert {row["id"] for row in json.loads((tmp_path / "again.json").read_text())} == {
        row["id"] for row in json.loads((tmp_path / "kept.json").read_text())
    }


def shell(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """A real process, with no terminal."""
    command = [sys.executable, "-m", "vlmsift", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "COLUMNS": "80"})


def test_a_process_of_its_own(home: Path, model: Path, tmp_path: Path) -> None:
    done = shell("sift", home / "data.json", "-m", model, "-o", tmp_path / "kept.json", "--workers", 2, "--keep", 7)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("7 of 30 rows kept: chosen by judge then facility_location")
    assert "scoring: 30 rows" in done.stderr
    assert len(json.loads((tmp_path / "kept.json").read_text())) == 7


def test_a_process_that_cannot(tmp_path: Path) -> None:
    done = shell("select", tmp_path / "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"vlmsift: {tmp_path}/nowhere: there is no such run folder. `vlmsift score` makes one.\n"


def test_a_wrong_path_is_told_before_torch_is_imported(tmp_path: Path) -> None:
    program = "import sys; from vlmsift import score\ntry: score('gone.json', 'm', 'run')\nexcept ValueError: pass\n"
    done = subprocess.run([sys.executable, "-c", f"{program}sys.exit('torch' in sys.modules)"], cwd=tmp_path)
    assert done.returncode == 0


def refused(answer: tuple[int, str, str], told: str) -> None:
    """Exit code 2, nothing on stdout, and on stderr one sentence that says `told`."""
    code, out, err = answer
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("vlmsift: ") or "Error" in err
    assert re.search(told, without(err)), err
    assert "Traceback" not in err


@pytest.mark.parametrize("keep", ["0%", "-5", "31", ""])
def test_a_budget_that_cannot_be_meant(keep: str, home: Path, vlmsift_: Vlmsift) -> None:
    told = rf"keep='{keep}' .*Give a share such as 0\.2 or '20%', or a count from 1 to 30\."
    refused(vlmsift_("select", home / "run", "--keep", keep, "--name", "never"), told)
    assert not (home / "run" / "selections" / "never.parquet").exists()


def test_a_report_of_a_run(home: Path, vlmsift_: Vlmsift, tmp_path: Path) -> None:
    vlmsift_("select", home / "run", "--keep", "7", "--name", "shown")
    page = tmp_path / "report.html"
    code, out, _ = vlmsift_("report", home / "run", "--selection", "shown", "--out", page)
    assert (code, out) == (0, f"the report is {page}\n")
    assert "7 of 30 rows kept" in page.read_text()
    assert 'class="heat"' not in page.read_text(), "no model says where it looks"
    refused(vlmsift_("report", home / "run", "--selection", "gone", "--out", page), r"no selection 'gone'\. It has:")


def test_seven_is_seven(home: Path, vlmsift_: Vlmsift) -> None:
    code, out, _ = vlmsift_("select", home / "run", "--keep", "7", "--name", "a few")
    assert code == 0
    assert out.startswith("7 of 30 rows kept")
    assert out.endswith(f"next: vlmsift export '{home / 'run'}' --out kept.json --name 'a few'\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["--selector", "top:by=delta"],
            r"no signal 'delta' to choose by\. The run has: answer_tokens, delta_attnmask, answer_loss",
        ),
        (["--where", "loss > 3"], r"where='loss > 3' is not a condition on this run: .*Columns: index, id"),
        (["--selector", "best"], r"no selector 'best'; choose among top, random"),
        (["--selector", "top:pick=best"], r"pick='best' cannot be meant; give one of highest, lowest, middle, band"),
        (["--selector", "top:pick=band,low=x"], r"low='x' is no end of a band\. Give a value, or a quantile"),
        (["--text-only", "some"], r"text_only='some' cannot be meant; give one of same-rate"),
        (["--seed", "-1"], r"seed=-1 cannot be meant; give a whole number at least 0"),
        (["--name", "../x"], r"'\.\./x' cannot name a selection"),
        (["--keep", "30"], r"only 28 of 30 rows can be chosen \(2 error rows\)\. Ask for at most 28"),
        (["--nonsense"], r"No such option.*--nonsense"),
    ],
)
def test_a_selection_that_cannot_be_meant(arguments: Sequence[str], told: str, home: Path, vlmsift_: Vlmsift) -> None:
    refused(vlmsift_("select", home / "run", *arguments), told)


def test_a_band_takes_values_and_quantiles(home: Path, vlmsift_: Vlmsift) -> None:
    band = "top:by=answer_loss,pick=band,low=25%,high=9.5"
    code, out, _ = vlmsift_("select", home / "run", "--selector", band, "--keep", 4, "--name", "band")
    assert code == 0
    assert out.startswith("4 of 30 rows kept: drawn from a band of answer_loss")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["score", "gone.json", "-m", "MODEL"], r"gone\.json: no such file or folder"),
        (["score", "DATA", "-m", "llava-hf"], r"no model folder 'llava-hf'; check the path, or give a hub name"),
        (["score", "DATA", "-m", "nobody/nothing"], r"no model could be loaded from 'nobody/nothing'"),
        (["score", "DATA", "-m", "MODEL", "--images", "nowhere"], r"no image folder nowhere; name the folder"),
        (["score", "DATA", "-m", "MODEL", "-s", "loss"], r"no signal 'loss'; choose among delta_attnmask"),
        (["score", "DATA", "-m", "MODEL", "--chat-template", "gone.jinja"], r"template 'gone\.jinja' cannot be read"),
        (["score", "DATA", "-m", "MODEL", "--part-size", "x"], r"Invalid value for '--part-size'"),
        (["score", "DATA"], r"Missing option '--model'"),
        (["sift", "DATA", "-m", "MODEL", "--method", "best"], r"no method 'best'; choose among judge-cover"),
        (["sift", "DATA", "-m", "MODEL", "--keep", "101%"], r"keep='101%' is not a share"),
        (["export", "DATA"], r"data\.json: there is no such run folder"),
        (["export", "RUN", "--name", "best"], r"has no selection 'best'\. It has: "),
        (["check", "no/such/model"], r"no model folder 'no/such/model'"),
    ],
)  # fmt: skip
def test_a_command_that_cannot_be_meant(
    arguments: Sequence[str], told: str, home: Path, model: Path, vlmsift_: Vlmsift, tmp_path: Path
) -> None:
    places = {"DATA": home / "data.json", "MODEL": model, "RUN": home / "run"}
    out = [] if arguments[0] == "check" else ["--out", tmp_path / "out"]
    refused(vlmsift_(*(places.get(word, word) for word in arguments), *out), told)
    assert not (tmp_path / "out").exists()


def test_a_pool_that_moved(home: Path, vlmsift_: Vlmsift, tmp_path: Path) -> None:
    assert vlmsift_("select", home / "run", "--keep", 5)[0] == 0
    record = (home / "run" / "run.json").read_text()
    (home / "run" / "run.json").write_text(record.replace("data.json", "gone.json"))
    export = ("export", home / "run", "-o", tmp_path / "kept.json")
    refused(vlmsift_(*export), r"gone\.json is no longer there; name its new place with --pool")
    assert vlmsift_(*export, "--pool", home / "data.json")[0] == 0
    (tmp_path / "other.json").write_text((home / "data.json").read_text().replace("yes", "no"))
    refused(vlmsift_(*export, "--pool", tmp_path / "other.json"), r"is not the pool that .* was scored on")
    (home / "run" / "run.json").write_text(record)


def test_a_place_that_cannot_be_written(home: Path, vlmsift_: Vlmsift, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert vlmsift_("select", home / "run", "--keep", 5)[0] == 0
    export = ("export", home / "run", "--out", tmp_path / "file" / "kept.json")
    refused(vlmsift_(*export), r"vlmsift: .*kept\.json cannot be: .*file is a file")


def test_stopped_by_hand(home: Path, model: Path, vlmsift_: Vlmsift, tmp_path: Path, monkeypatch: Any) -> None:
    def stop(*arguments: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vlmsift.scoring.score.score", stop)
    _, out, err = vlmsift_("score", home / "data.json", "-m", model, "-o", tmp_path / "run")
    assert out == ""
    assert "stopped; finished parts are kept, and the same command goes on from there" in err


def test_check_says_yes_or_no(model: Path, vlmsift_: Vlmsift, monkeypatch: pytest.MonkeyPatch) -> None:
    from vlmsift import check

    assert vlmsift_("check", model)[:2][0] == 0
    report = check.Report("m", {}, [check.Proof("attention", False, "layer 3 was not seen")])
    monkeypatch.setattr(check, "check_adapter", lambda adapter: report)
    code, out, _ = vlmsift_("check", model)
    assert code == 1
    assert out.endswith("not supported: attention: layer 3 was not seen\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    answer = CliRunner().invoke(app, [command, "--help"])
    assert answer.exit_code == 0
    assert f"Usage: vlmsift {command}" in without(answer.output)
    assert len(without(answer.output)) > 100


def test_the_help_names_defaults_that_are_no_value() -> None:
    said = without(CliRunner().invoke(app, ["sift", "--help"], env={"COLUMNS": "300"}).output)
    assert said.count("(default: ") == 13, "square brackets would be swallowed as markup"


def test_without_arguments_comes_the_help() -> None:
    said = without(CliRunner().invoke(app, []).output)
    assert all(f" {command} " in said for command in COMMANDS)


def test_the_version(vlmsift_: Vlmsift) -> None:
    assert vlmsift_("--version")[:2] == (0, f"{vlmsift.__version__}\n")


def test_the_tables(vlmsift_: Vlmsift) -> None:
    assert "delta_attnmask * (nats)" in vlmsift_("signals")[1]
    told = vlmsift_("methods")[1]
    assert "delta-attnmask-plain" in told
    assert vlmsift_("methods", "--markdown")[1].startswith("| method | signals | forwards | needs | source |")


def test_a_selector_by_its_word(home: Path, vlmsift_: Vlmsift) -> None:
    code, out, _ = vlmsift_("select", home / "run", "--keep", 5, "--selector", "top:by=answer_loss,pick=lowest")
    assert code == 0
    assert "5 of 30 rows kept: the lowest answer_loss" in out
    code, out, _ = vlmsift_("select", home / "run", "--keep", 5, "--selector", "random")
    assert "5 of 30 rows kept: chosen by random" in out


def test_every_verb_offers_the_same_options(vlmsift_: Vlmsift) -> None:
    """An option of a pool, a model or the work stands in its spec, and each verb that takes the spec has it."""
    takes = {
        "check": [ModelSpec],
        "score": [PoolSpec, ModelSpec, EngineSpec],
        "sift": [PoolSpec, ModelSpec, EngineSpec],
        "calibrate": [PoolSpec, ModelSpec, EngineSpec],
        "train": [PoolSpec, ModelSpec],
    }
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for verb, specs in takes.items():
        offered = {parameter.name: parameter for parameter in commands[verb].params}
        for place, spec in enumerate(specs):
            for number, field in enumerate(dataclasses.fields(spec)):
                parameter = offered[field.name]
                is_argument = place == number == 0
                assert parameter.param_type_name == ("argument" if is_argument else "option"), (verb, field.name)
                if field.default is not dataclasses.MISSING:
                    assert parameter.default == field.default, (verb, field.name)


def test_a_plan_and_the_api_take_the_same_specs() -> None:
    for function in (score, sift, calibrate, train):
        hints = inspect.signature(function).parameters
        assert "PoolSpec" in hints.get("pool", hints.get("data")).annotation  # type: ignore[union-attr]
        assert "ModelSpec" in hints["model"].annotation
        options = {field.name for spec in (PoolSpec, ModelSpec, EngineSpec) for field in dataclasses.fields(spec)}
        shared = (
            {"engine"} if "EngineSpec" in str(hints.get("engine")) else set()
        )  # the spec, which has a field so called
        assert set(hints) & options <= {"model", "data"} | shared, function
    known = field_types(Plan)
    assert "PoolSpec" in str(known["pool"])
    assert "PoolSpec" in str(known["test"])
    assert "ModelSpec" in str(known["model"])
    assert "ModelSpec" in str(known["scorer"])
