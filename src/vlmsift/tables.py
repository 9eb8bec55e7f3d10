"""Tables of text. In: records, one per row, column -> text. Out: Markdown; the terminal prints the same records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Record = Mapping[str, str]


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
