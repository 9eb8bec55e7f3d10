"""A late sequence behaves as a tuple of its texts."""

from __future__ import annotations

import pyarrow as pa
import pytest

from vlmsift import texts
from vlmsift.texts import Texts


def test_it_is_like_a_tuple(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_PIECE", 2)
    plain = ("a", "b", "c", "d", "é")
    late = Texts(pa.array(plain))
    assert (len(late), list(late), late[1], late[-1], late[1:3], late[::-2]) == (
        5,
        list(plain),
        "b",
        "é",
        ("b", "c"),
        plain[::-2],
    )
    assert late == plain
    assert plain == late
    assert late == Texts(pa.array(plain))
    assert late != plain[:4]
    assert late != (*plain[:4], "f")
    assert late != list(plain)
    assert ("c" in late, "x" in late, late.index("d")) == (True, False, 3)
    assert hash(late) == hash(plain)
    assert repr(late) == repr(plain)
    for place in (5, -6):
        with pytest.raises(IndexError):
            late[place]
