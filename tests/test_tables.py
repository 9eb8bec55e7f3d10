"""One account, three renderers; here what it is, and Markdown. The terminal's and the page's tests stand by theirs."""

from __future__ import annotations

import pytest

from vlmsift.tables import Account, Section, as_markdown, markdown_table, read_account, written_account

TOLD = Account(
    "Run",
    [
        Section(text="3 of 4 rows scored", points=("1 row has no image",)),
        Section("Figures", records=[{"name": "a|b", "value": "1"}], left=1),
        Section(text="how it was done", detail=True),
    ],
)


def test_markdown_has_every_part_in_order() -> None:
    assert as_markdown(TOLD) == (
        "# Run\n\n3 of 4 rows scored\n\n- 1 row has no image\n\n## Figures\n\n"
        "| name | value |\n| --- | ---: |\n| a\\|b | 1 |\n\nhow it was done\n"
    )


def test_a_table_without_records_is_no_table() -> None:
    assert markdown_table([]) == ""


def test_an_account_comes_back_from_a_file() -> None:
    back = read_account({**written_account(TOLD), b"other": b"x"})
    assert back is not None
    assert as_markdown(back) == as_markdown(TOLD)
    assert [section.detail for section in back.sections] == [False, False, True]


@pytest.mark.parametrize("content", [None, {}, {b"vlmsift.account": b"{"}, {b"vlmsift.account": b'{"title": "x"}'}])
def test_other_files_have_none(content: dict[bytes, bytes] | None) -> None:
    assert read_account(content) is None
