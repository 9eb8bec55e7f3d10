"""How the command line ends: by Ctrl-C, by a full disk, by a fault of its own."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.sample_pools import llava_rows, write_pool
from vlmsift import cli


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_a_training_that_is_stopped_says_how_to_go_on(tmp_path: Path, toy_path: Callable[[str], Path]) -> None:
    pool, log = write_pool(tmp_path, llava_rows(8)), tmp_path / "log"
    command = [
        "train",
        pool,
        "-m",
        toy_path("llava"),
        "-o",
        tmp_path / "out",
        "--device",
        "cpu",
        "--set",
        "epochs=9999",
    ]
    with log.open("w") as stream:
        process = subprocess.Popen([sys.executable, "-m", "vlmsift", *map(str, command)], stdout=stream, stderr=stream)
    while process.poll() is None and "1 of " not in log.read_text() and "1/" not in log.read_text():
        time.sleep(0.05)
    try:
        for _ in range(6):  # Python drops an interrupt that meets a destructor; a user presses again
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
                break
        assert process.poll() == 130, log.read_text()
    finally:
        process.kill()
    assert "Traceback" not in log.read_text()
    assert log.read_text().endswith("vlmsift: stopped. Start the same command again; what was finished is kept\n")


def caused(error: Exception, cause: Exception) -> Exception:
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.bin"), "vlmsift: a.bin: No space left on device. Check "),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "vlmsift: writing failed, the disk may be"),
        (
            caused(
                RuntimeError("basic_ios::clear: iostream error"),
                RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
            ),
            "vlmsift: writing failed, the disk may be full: basic_ios",
        ),
        (caused(ValueError("no model"), OSError(errno.EDQUOT, "Disk quota exceeded")), "vlmsift: writing failed"),
    ],
)
def test_a_full_disk_is_a_sentence(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit, match="2"):
        cli.main([])
    said = capsys.readouterr().err
    assert said.startswith(told)
    assert said.endswith("goes on from what is finished\n")


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise caused(KeyError("signals"), FileNotFoundError("a file that was not needed"))

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(KeyError):
        cli.main([])
