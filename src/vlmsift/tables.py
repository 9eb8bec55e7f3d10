"""Results as they are told. In: records, one per row, column -> text, and sentences. Out: an `Account`, and Markdown.

A run, a selection, a calibration and a comparison each make one account of themselves; the terminal, Markdown and the
report's HTML show the same one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

Record = Mapping[str, str]


@dataclass(frozen=True)
class Section:
    """A part of an account: what it is about, a paragraph, points, and a table; any of them may be missing.

    Attributes:
        records: the table's rows, with the columns of the first; all but the `left` first columns are numbers.
        detail: for who looks closer: the terminal leaves it out.
    """

    title: str = ""
    text: str = ""
    points: Sequence[str] = ()
    records: Sequence[Record] = ()
    left: int = 1
    detail: bool = False


@dataclass(frozen=True)
class Account:
    """What a result says of itself."""

    title: str
    sections: Sequence[Section]


_KEY = b"vlmsift.account"


def written_account(account: Account) -> dict[bytes, bytes]:
    """Metadata of a Parquet file that was written with an account."""
    return {_KEY: json.dumps(asdict(account)).encode()}


def read_account(metadata: Mapping[bytes, bytes] | None) -> Account | None:
    """The account in a Parquet file's metadata; None where there is none."""
    try:
        content = json.loads((metadata or {})[_KEY])
        return Account(content["title"], [Section(**section) for section in content["sections"]])
    except (KeyError, TypeError, ValueError):
        return None


def as_markdown(account: Account) -> str:
    """The account as a page."""
    blocks = [f"# {account.title}"]
    for section in account.sections:
        blocks += [f"## {section.title}"] if section.title else []
        blocks += [section.text] if section.text else []
        blocks += ["\n".join(f"- {point}" for point in section.points)] if section.points else []
        blocks += [markdown_table(section.records, section.left)] if section.records else []
    return "\n\n".join(blocks) + "\n"


def markdown_table(records: Sequence[Record], left: int = 1) -> str:
    """The records as a Markdown table, with the columns of the first; all but the `left` first are numbers."""
    if not records:
        return ""
    names = list(records[0])
    aligned = ["---"] * left + ["---:"] * (len(names) - left)
    lines = [names, aligned, *([line[name] for name in names] for line in records)]
    escaped = ([text.replace("|", "\\|") for text in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def number(value: float | None, digits: int, missing: str = "") -> str:
    """Rounded, with commas; `missing` where there is none, or it is undefined."""
    return missing if value is None or value != value else f"{value:,.{digits}f}"


def spread(value: float | None, deviation: float | None, digits: int) -> str:
    """A mean and its deviation, which may be unknown."""
    return number(value, digits) + ("" if deviation is None else f" ± {number(deviation, digits)}")
