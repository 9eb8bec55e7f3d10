"""Content -> one HTML file. In: a `Content`. Out: text that needs nothing else, escaped, under a closed policy."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from vlmsift.errors import UsageError
from vlmsift.files import check_output, write_text

MOST_BYTES = 15_000_000
_MARK = '<meta name="generator" content="vlmsift report">'


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FileSystemLoader(Path(__file__).parent),
    )


def render(page: Any) -> str:
    """The page as text. Nothing in it can load from elsewhere, and no script can run."""
    from markupsafe import Markup

    from vlmsift.report.svg import percentile

    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    template = _environment().get_template("page.html.jinja")
    text: str = template.render(page=page, style=Markup(style), policy=Markup(policy), percentile=percentile)
    return text.lstrip()


def write_page(page: Any, out: Path) -> Path:
    """Write it to `out`, whole or not at all. What has that name is replaced where it is a report.

    Raises UsageError where `out` is something else (`check_page` tells before).
    """
    check_page(out)
    text = render(page)
    if (size := len(text.encode())) > MOST_BYTES:
        raise RuntimeError(f"the report has {size:,} bytes, more than {MOST_BYTES:,}")
    write_text(out, text)
    return out


def check_page(out: Path) -> None:
    """Raise UsageError where no report can be written: a folder, or a file that is no report."""
    check_output(out)
    if out.is_dir():
        raise UsageError(f"{out} is a folder; name a file for the report, such as {out / 'report.html'}")
    if out.exists():
        with open(out, "rb") as file:
            if _MARK.encode() not in file.read(2000):
                raise UsageError(f"{out} is no report of vlmsift, so it is not replaced. Name another --out.")
