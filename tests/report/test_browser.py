"""The page in a real browser: phone and desk, light and dark, by keyboard; nothing overflows, nothing is asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vlmsift.demo import MODEL_PATH
from vlmsift.report import write_report
from vlmsift.runs.run import Run
from vlmsift.specs import ModelSpec

CHROMIUM = Path("/usr/bin/chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
if not CHROMIUM.exists():
    pytest.skip("no browser: install Debian's chromium", allow_module_level=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def path(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("browser") / "report.html"
    return write_report(run, out, model=ModelSpec(MODEL_PATH, device="cpu"))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_opens_everywhere(browser: Any, path: Path, width: int, theme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") == width, "nothing overflows"
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(252, 252, 250)") is (theme == "light")
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    narrow = "[...document.querySelectorAll('main .chart, .card, figure')].filter(one => one.getClientRects().length"
    assert page.evaluate(f"{narrow} && one.getBoundingClientRect().right > {width} + 1).length") == 0
    context.close()


def test_what_the_model_looks_at_is_shown_and_hidden_by_keyboard(browser: Any, path: Path) -> None:
    page = browser.new_page()
    page.goto(path.as_uri())
    heat = page.locator("#samples .heat").first
    assert heat.is_visible()
    page.locator("#looks").focus()
    page.keyboard.press("Space")
    assert not heat.is_visible()
    page.keyboard.press("Space")
    assert heat.is_visible()
    page.locator("#samples .look").first.hover()
    assert not heat.is_visible(), "who points at a picture sees it alone"
    mini = page.locator("details.mini").first
    mini.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert mini.locator(".card").is_visible()
    page.close()


def test_the_page_can_be_printed(browser: Any, path: Path) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(path.as_uri())
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    assert len(page.pdf()) > 10_000
    page.close()
