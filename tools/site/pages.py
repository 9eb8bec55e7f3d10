"""Pages of the documentation that the code itself tells: signals, selectors, the command line, the changes.

In: the tables of the package. Out: Markdown, handed to mkdocs when the site is built (`hooks` in mkdocs.yml), so that
no page can say what the code does not.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def on_files(files: Any, config: Any) -> Any:
    """Called by mkdocs with the files of docs/; adds the pages that are made."""
    from mkdocs.structure.files import File

    for name, text in made_pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def made_pages() -> dict[str, str]:
    """Path below docs/ -> Markdown."""
    return {
        "reference/signals.md": signals_page(),
        "reference/selectors.md": selectors_page(),
        "reference/command-line.md": command_line_page(),
        "reference/runs.md": runs_page(),
        "changes.md": re.sub(r"\]\((docs/)?", "](", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")),
    }


def signals_page() -> str:
    """Every signal: what it says, its unit, its fields."""
    from vlmsift.signals import SIGNALS

    lines = [
        "# Signals",
        "",
        "A word is `NAME`, `NAME:field=value,...`, or `COLUMN=NAME:...`; several may be given.",
        "",
    ]
    for name, kind in SIGNALS.items():
        signal = kind()
        lines += [f"## {name}", "", *_described(kind), ""]
        lines += [f"In {signal.unit}; higher means {signal.higher_means.rstrip('.')}.", "", *_fields(kind)]
    return "\n".join(lines) + "\n"


def selectors_page() -> str:
    """Every selector, with its fields."""
    from vlmsift.selectors import SELECTORS

    lines = [
        "# Selectors",
        "",
        "A word is `NAME` or `NAME:field=value,...`; one that judges may stand before another: "
        '`"judge:drop=0.3 then k_center"`.',
        "",
    ]
    for name, kind in SELECTORS.items():
        lines += [f"## {name}", "", *_described(kind), "", *_fields(kind)]
    return "\n".join(lines) + "\n"


def command_line_page() -> str:
    """Every command, argument and option."""
    from typer.main import get_command

    from vlmsift.cli import app

    group: Any = get_command(app)
    lines = ["# Command line", ""]
    for name, command in group.commands.items():
        lines += [
            f"## vlmsift {name}",
            "",
            _text(command.help),
            "",
            "| option | what it is | default |",
            "|---|---|---|",
        ]
        for option in command.params:
            called = ", ".join(f"`{flag}`" for flag in option.opts)
            known = option.default is not None and not callable(option.default) and option.default not in ((), [])
            default = f"`{option.default}`" if known else ""
            lines.append(f"| {called} | {_cell(getattr(option, 'help', '') or '')} | {default} |")
        lines.append("")
    return "\n".join(lines) + "\n"


def runs_page() -> str:
    """What a run's columns are, and the words that are used for things."""
    house = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    folder = house.partition("## The run folder")[2].partition("\n## ")[0]
    words = " ".join(house.partition("Words: ")[2].partition("\n\n")[0].split())
    return f"# Words and columns\n\n{words[0].upper()}{words[1:]}\n\n## The run folder\n{folder}\n"


def _described(kind: Any) -> Iterator[str]:
    """A docstring without its list of attributes; of a signal that is another one with other values, these."""
    if isinstance(kind, partial):
        given = ",".join(f"{name}={value}" for name, value in kind.keywords.items() if name != "name")
        yield f"`{kind.func.name}:{given}`"  # type: ignore[attr-defined]
        return
    text = inspect.getdoc(kind) or ""
    yield from _text(text.partition("\nAttributes:")[0]).splitlines()


def _fields(kind: Any) -> Iterator[str]:
    """What may be given, as a table; nothing where there is nothing."""
    fields = [field for field in dataclasses.fields(kind) if field.init] if dataclasses.is_dataclass(kind) else []
    if not fields:
        return
    told = {
        name: said for base in reversed(kind.__mro__) for name, said in _attributes(inspect.getdoc(base) or "").items()
    }
    yield from ("| field | default | what it is |", "|---|---|---|")
    for field in fields:
        default = "" if field.default is dataclasses.MISSING else f"`{field.default}`"
        yield f"| `{field.name}` | {default} | {_cell(told.get(field.name, ''))} |"
    yield ""


def _attributes(text: str) -> dict[str, str]:
    """Field -> what its docstring says of it; a paragraph may name several in a row."""
    part = text.partition("\nAttributes:\n")[2].partition("\n\n")[0]
    found: dict[str, str] = {}
    for entry in re.split(r"\n {4}(?=\w)", "\n" + part):
        names, _, said = entry.strip().partition(": ")
        for name in names.split(", "):
            found[name] = " ".join(said.split())
    return found


def _text(text: str | None) -> str:
    return re.sub(r"`([^`]+)`", r"`\1`", (text or "").strip())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
