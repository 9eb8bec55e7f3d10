"""docs/tutorial.md does what it says: every block runs, in order, in an empty folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from vlmsift.cli import main

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """(language, text) of each fenced block."""
    return BLOCK.findall(TUTORIAL.read_text(encoding="utf-8"))


def test_every_block_is_python_or_commands():
    found = blocks()
    assert {language for language, _ in found} == {"python", "console"}
    assert all(
        line.startswith("vlmsift ") for language, text in found if language == "console" for line in text.splitlines()
    )


def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("accelerate", reason="the last command trains")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for language, text in blocks():
        if language == "python":
            exec(compile(text, str(TUTORIAL), "exec"), names)
            continue
        for line in text.splitlines():
            with pytest.raises(SystemExit) as ended:
                main(shlex.split(line)[1:])
            assert ended.value.code in (0, None), f"{line}: {capsys.readouterr().err}"
    printed = capsys.readouterr().out
    clean = {name: int(count) for name, count in re.findall(r"(\w+): (\d+) of 80 kept rows are clean", printed)}
    assert clean["ours"] > clean["delta"] > clean["drawn"]
    assert (tmp_path / "tuned" / "train.json").exists()
    assert (tmp_path / "sifted.json").exists()
