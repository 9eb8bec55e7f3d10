"""Documents that no site holds: their links lead to files that are there. And what the site's made pages say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tools.site.pages import made_pages

from vlmsift.selectors import SELECTORS
from vlmsift.signals import SIGNALS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_to_files(name: str):
    links = re.findall(r"\]\(([^)#]+)", (ROOT / name).read_text(encoding="utf-8"))
    inside = [link for link in links if "://" not in link]
    assert inside or name == "CHANGELOG.md"
    assert [link for link in inside if not (ROOT / link).exists()] == []


def test_the_made_pages_name_everything():
    pages = made_pages()
    assert all(f"## {name}\n" in pages["reference/signals.md"] for name in SIGNALS)
    assert all(f"## {name}\n" in pages["reference/selectors.md"] for name in SELECTORS)
    options = pages["reference/command-line.md"]
    assert "## vlmsift score\n" in options
    assert "| `--tokens-per-batch` |" in options
    assert "signals/part-000000.parquet" in pages["reference/runs.md"]


def test_fields_are_told_with_what_they_mean():
    """Those of a base count; a field without a word would be an empty cell."""
    pages = made_pages()
    told = re.findall(
        r"^\| `(\w+)` \| .* \| (.*) \|$", pages["reference/signals.md"] + pages["reference/selectors.md"], re.M
    )
    assert len(told) > 50
    assert [name for name, text in told if not text] == []
