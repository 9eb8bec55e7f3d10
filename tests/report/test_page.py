"""The page: closed to everything outside, every string in it escaped and cut, small, and the same for the same seed."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.report.conftest import ROWS, SCRIPT, make_run
from tests.sample_pools import llava_rows, write_pool
from vlmsift.demo import MODEL_PATH
from vlmsift.errors import RunMismatch, UsageError
from vlmsift.report import cards, write_report
from vlmsift.report.page import MOST_BYTES
from vlmsift.runs.run import Run
from vlmsift.specs import ModelSpec

VOID = {"meta", "img", "path", "rect", "input", "br"}


class Parsed(HTMLParser):
    """Tags with their attributes, text, and whether every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def ids(self) -> list[str]:
        return [attributes["id"] or "" for _, attributes in self.tags if "id" in attributes]


@pytest.fixture(scope="module")
def text(run: Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    page = write_report(run, tmp_path_factory.mktemp("page") / "report.html", model=ModelSpec(MODEL_PATH, device="cpu"))
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Parsed:
    return Parsed(text)


def test_the_page_has_its_parts(page: Parsed) -> None:
    assert page.open == []
    sections = ["run", "signals", "selections", "map", "samples", "looks", "duplicates", "errors"]
    assert page.ids() == sections, "no calibration is near"
    links = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert links == {f"#{name}" for name in sections if name != "looks"}
    for part in (
        f"{ROWS - 3} of {ROWS} rows scored",
        "2 x missing image",
        "torch 2",
        "forwards of the text decoder per sample",
        "depth=0.5, ratio=0.5, eligible=image",
        "delta_attnmask, nats",
        "By source",
        "By answer length",
        "30 of 60 rows kept",
        "kept by both",
        "PCA",
        "Cluster 1",
        "The best",
        "The worst",
        "Next to the cut",
        "Between the dashed lines",
        "Similarity 1",
        "its keeper is",
        "dropped: rank",
        "image tokens are masked",
        "of the answer's attention",
        "is not the one that was scored",
        "'..' in it",
        "vlmsift opens no network",
    ):
        assert part in page.text, part


def test_nothing_can_come_from_elsewhere(text: str, page: Parsed) -> None:
    policies = [tags["content"] for tag, tags in page.tags if tags.get("http-equiv") == "Content-Security-Policy"]
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policies == [
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    ]
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "video", "audio"}
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "style", "the policy would drop it"
            if name in ("src", "href", "srcset", "xlink:href"):
                assert str(value).startswith(("data:image/", "#")), (tag, value)


def test_strings_of_the_data_are_escaped_and_cut(text: str, page: Parsed) -> None:
    assert SCRIPT not in text
    assert SCRIPT.replace("/", "") not in text, "the folder's name"
    assert page.text.count("alert(1)") >= 1, "the id is shown as it is"
    assert "שלום" in page.text
    assert "\x00" not in text
    assert "\x07" not in text
    assert "\u202e" not in text, "what turns the text around it"
    assert "749,400 more letters" in page.text
    assert "long " * 200 not in text
    assert "x" * 1000 not in re.sub(r"data:[^\"]*", "", text)
    assert next(attributes.get("dir") for tag, attributes in page.tags if tag == "code") == "auto"


def test_the_same_seed_gives_the_same_page(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vlmsift.report import columns

    monkeypatch.setattr(columns, "MAPPED", 20)
    monkeypatch.setattr(columns, "PARTS", 2)
    pages = [write_report(run, tmp_path / f"{n}.html", seed=seed).read_text() for n, seed in enumerate((0, 0, 1))]
    assert pages[0] == pages[1]
    assert pages[0].replace("seed 0", "seed 1") != pages[2]


def test_pages_are_small_whatever_is_in_the_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = llava_rows(ROWS)
    for row in rows:
        row["image"] = [f"images/{place}.png" for place in range(4)]
        row["conversations"][0]["value"] = "<image>" * 4 + "?" * 900_000
    data = write_pool(tmp_path / "pool", rows)
    for place in range(4):
        noise = np.random.default_rng(place).integers(0, 256, (500, 500, 3), dtype=np.uint8)
        Image.fromarray(noise).save(data.parent / "images" / f"{place}.png")
    run = make_run(tmp_path / "run", data)
    page = write_report(run, tmp_path / "full.html")
    assert 1_000_000 < page.stat().st_size < MOST_BYTES
    assert "the page is full" not in page.read_text()
    monkeypatch.setattr(cards, "ROOM", 500_000)
    page = write_report(run, tmp_path / "small.html")
    assert page.stat().st_size < 1_000_000
    assert "left out: the page is full" in page.read_text()


def test_a_run_without_selection_or_pool_is_shown_too(run: Run, tmp_path: Path) -> None:
    alone = make_run(tmp_path / "run", Path(run.settings["info"]["pool"]))
    alone.settings["info"]["pool"] = str(tmp_path / "gone.json")
    told = Parsed(write_report(alone, tmp_path / "report.html").read_text())
    assert "gone.json is no longer there" in told.text
    assert "The highest delta_attnmask" in told.text
    assert "Kept and dropped" not in told.text
    with pytest.raises(UsageError, match=r"gone\.json is no longer there"):
        write_report(alone, tmp_path / "again.html", pool=tmp_path / "gone.json")
    other = write_pool(tmp_path / "other", llava_rows(3))
    with pytest.raises(RunMismatch, match="is not the pool"):
        write_report(alone, tmp_path / "again.html", pool=other)


def test_only_a_report_is_replaced(run: Run, tmp_path: Path) -> None:
    mine = tmp_path / "mine.html"
    mine.write_text("<html>precious</html>")
    with pytest.raises(UsageError, match="is no report of vlmsift"):
        write_report(run, mine)
    assert mine.read_text() == "<html>precious</html>"
    with pytest.raises(UsageError, match="is a folder"):
        write_report(run, tmp_path)
    page = write_report(run, tmp_path / "report.html", selections=["top"])
    assert write_report(run, page, selections=["copies"]) == page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.html", "report.html"]


def test_an_unknown_selection_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no selection 'best'\. It has: copies, top"):
        write_report(run, tmp_path / "report.html", selections=["best"])
    assert list(tmp_path.iterdir()) == []


def test_tables_near_the_run_are_shown(run: Run, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from vlmsift.report.near import accounts_near
    from vlmsift.tables import Account, Section, written_account

    told = Account("Calibration", [Section(text="Best of 9", records=[{"signal": SCRIPT, "mean": "0.9"}])])
    here = make_run(tmp_path / "home" / "run", Path(run.settings["info"]["pool"]))
    for name, metadata in (("cal", written_account(told)), ("foreign", {})):
        (tmp_path / "home" / name).mkdir()
        table = pa.table({"a": [1]}).replace_schema_metadata(metadata)
        pq.write_table(table, tmp_path / "home" / name / "table.parquet")
    (tmp_path / "home" / "broken").mkdir()
    (tmp_path / "home" / "broken" / "table.parquet").write_bytes(b"PAR1")
    assert list(accounts_near(here.folder)) == ["cal"]
    text = write_report(here, tmp_path / "report.html").read_text()
    assert "Calibration in <bdi>cal</bdi>" in text
    assert "Best of 9" in text
    assert SCRIPT not in text
