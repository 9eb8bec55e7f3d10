"""The picture of a report in the README: a part of the page, as Debian's Chromium draws it.

python -m tools.report_picture demo-run/report.html docs/report.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

WIDTH, HEIGHT = 1200, 1300


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--at", default="samples", help="where on the page the picture begins")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(options.page.resolve().as_uri())
        place = page.locator(f"#{options.at}").bounding_box()
        assert place is not None
        part = {"x": 0.0, "y": place["y"], "width": float(WIDTH), "height": float(HEIGHT)}
        page.screenshot(path=str(options.picture), full_page=True, clip=part)  # type: ignore[arg-type]
        browser.close()


if __name__ == "__main__":
    main()
